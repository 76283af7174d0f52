"""Whether what a message names is there: commands, flags, fields, values, extras, ids, classes."""

import ast
import importlib
import inspect
import re
import tomllib
from importlib import metadata

from helpers.advice import PACKAGE, resolve, takes
from torch import Tensor, nn

import fastdqn
from fastdqn.cli.help import guide_of
from fastdqn.cli.main import COMMANDS
from fastdqn.config.checks import check_type
from fastdqn.config.config import Config
from fastdqn.config.env_ids import check_env_id
from fastdqn.config.fields import fields_of
from fastdqn.envs.native.base import NativeVectorEnv
from fastdqn.envs.stream import EnvStream
from fastdqn.errors import ConfigError, EnvError

FIELDS = fields_of(Config)

# Proposals that name nothing which could be looked up. First those about the value that the message
# begins with: test_what_is_proposed_gets_past_the_refusal tries the most of them.
PLAIN = re.compile(
    "|".join(
        line.strip()
        for line in r"""
    (leave|lower|drop|use|take|remove|unset) (it|them|that|that one|one|one of them)
    (leave|set) (it|that|them|one of them)( out| None| to None)?( at 1)?
    leave it out to take all of the weights
    use (numbers from 0 to {}|those where replay.tree.leaves > 0)
    use one number for each( of B rows, \[B\]|, \[({}, )?1\])?
    use one per env, shape \(N,\)
    pass (it to load, or the default is taken|gamma to DQNLossModule|a sample of this buffer)
    make another
    use save, and DQN.load
    pass a function of the progress that remains, 1 to 0
    pass a (path, or a file open in binary mode|tensor of numbers)
    pass (an array of shape \({},\)|as many numbers for each dimension|that of one env or more)
    pass (real numbers such as float32|whole numbers such as int64|the network that it was made of)
    name a directory( that can be made|, a str or a Path)
    take another path
    use float32 numbers from 0 to 1 on {}, \[{}, B\]
    make it (bool|int64|float32)
    pass a NumPy array or a tensor of shape {}
    leave one out
    leave the objective out to get the one that goes with the head
    give it (that argument|a second argument, samples|a mapping from its forwards to whole numbers)
    make it of what \('online', 's', 0\) put out, without detach and torch.no_grad
    leave that out: '{} {}'
    did you mean '--{}'\?
    use (a number from )?({}|[\d.]+) to ({}|[\d.]+)
    use (1 or more(, or None)?|a number above 0|{}|{}, {} or {}|one, or None)
    put best, latest or its env steps after the colon{}
    name latest, or one of {}
    use best, latest or its env steps{}
    stop at {}
    name its run for {}
    name (another|others|a directory|a file|one)( file| directory| to write)?
    name a (file in a directory that exists|directory, or None for a fresh one)
    name a (config.json|run directory) or a (run directory|checkpoint)
    name them as RUN RUN
    name those, e.g. {}
    name others with {}
    take another( one| checkpoint| device)?
    use an id that starts with ALE/
    use it from Python: {}
    resume (with the same value|it where there is {})
    use the (same|same layers|shape \[{}\])
    use envs (like those|that look alike)
    (use|make) the (.+) (it|they) (was|were) saved with
    pass (all N as one array|a VectorEnv)
    pass one that (has|makes Q, \[1, {}\]|maps those to Q, \[1, {}\])
    pass (that of the transition|floats of the kind it takes)
    use (floats or uint8 pixels|\[B, ..., H, W\]|integers such as int64)
    use one for each of (the )?{} observations
    use a triple of online or target, s or s2, and the number of a draw
    give it a sequence of \(network, state, draw\) triples, such as .*
    let it ask for \('online', 's', 0\)
    return True to stop the run, or nothing
    save in a later event
    return (one number for each|a tuple of the loss, the TD error) .*
    return a numpy array or a torch tensor of shape {}
    add more steps first
    put an adapter that subclasses VectorEnv around it
    make a new one
    change what the network does there
    wrap it in one that catches this and ends the episode
    correct one of them
    mend (that|the env)( where the stacks above show it waiting)?
    look for a (crash in the env's own libraries|division by zero in the env).*
    (make room|free memory|give the process more memory|make it readable|send it elsewhere)
    go on from the last checkpoint, which is intact
    (let that run end|stop it|wait for the first|Leave that file alone: .*)
    (install (one|a CUDA build of torch)|import fastdqn first|keep numbers in arrays)
    export CUBLAS_WORKSPACE_CONFIG=:4096:8
    use {}{} \(frame skip 4, sticky actions 0.25\), or {} for no sticky ones
    call network\.to_empty\(device='cpu'\) and initialise it
    call the network on one batch of observations first
    call train outside of it
    change what its forward does there
    choose from {}
    give its last observation
    keep locks, files and computed tensors out of its attributes
    leave it out for grey frames of {}x{}
    leave out what is in place \(nn\.ReLU\(inplace=True\), x \-= y\)
    let its layers take observations in the dtype of their weights
    make both of the same
    make both on one device
    make it a Box of uint8 or float32 with one dimension or more
    make it an array with np\.asarray, or a tensor
    make it {} with {}
    use one that does
    use some that do
    use one, such as \(4,\)
    pass a {}
    pass a function
    pass a text of JSON
    pass one, such as a class
    pass the Box of one frame
    pass that of a config\.json
    pass what state_dict\(\) returned
    use a text
    use some
    use 'inductor'
    use 50 or less, or an \.mp4
    give it the mode 'rgb_array'
    use True(, False)? or (False|None)
    pass fastdqn\.networks\.ScalarValues
    pass an instance of a torch\.nn\.Module
    pass one
    use uint8 or float32
    use a frame for each of N envs
    make its nn\.Embedding with sparse=False
    make the network on the CPU
    make them alike
    make them methods
    move it with \.to\({}\)
    move it with network\.to\({}\)
    move them to the front, e\.g\. by np\.moveaxis\(frames, \-1, 1\)
    name one to start from another
    observation = {}
    pass a module that maps observations to Q, \[B, A\]
    pass a network that maps those to Q, {}
    pass a tensor
    pass all parts
    pass an instance of it: {}\(\.\.\.\)
    pass one of a row of metrics\.csv
    pass (it in callbacks|functions of a row as on_log)
    pass one that has \(layers count in an nn\.ModuleList, not in a Python list\)
    pass one that makes Q, \[B, A\]
    pass one that makes Q, {}
    pass one that returns True to give up
    pass seed to envpool\.make
    pass that of a run
    pass that of a run or checkpoint
    pass the module inside: network\.module
    pass the module that it was made of
    pass those that it takes
    pass what such envs return
    pass {}
    pip install (opencv\-python\-headless|{})
    use 'module:{}'
    put a BatchNorm1d in front
    return such arrays
    set it to the space of one env's observation
    use 'ram'
    use \({},\)
    use Q of every action, \[B, A\]{}
    use \[{}, \.\.\.\]
    name a config\.json, a TOML file in UTF\-8 or a run directory
    move it to {}, or out of all groups
    put texts in quotes, and None, too
    use act for observations of your own
    use one action for each of B samples, \[B\]
    use one chance, or one for each of the {} envs, \[{}\]
    use one flag for each of {} envs
    use one like the observation, {}, for each
    use one number for each sample, {}
    use one number for each, \[{}\]
    use one number, 0\-d
    use one of {}
    use the other one
    use uint8
    use update\(batch\) for batches of your own
    pass (them to DQN.load instead|the observations of all of them|all that get_parameters returned)
    use (MultiInputPolicy|SB3's own replay buffer|1, or what they are stacks of)
    use {}, or frame_stack = 1
    wrap each env so that it is a Box of smaller ones
    wrap each env so that it has some
    wrap each env so that it is a Box
    wrap each env so that its observation has some
    pip install torchrl
    call extend first
    give one of them
    load it with the class that saved it
    make a new stream
    make the buffer with this sampler
    name a directory (of dumps|that dumps wrote)
    name it here or in the constructor
    pass a TensorDict
    pass one dimension, \[B\], as tensordict\.reshape\(\-1\) makes
    pass one for each(, or one for all)?
    pass one number for each dimension
    pass one of this buffer through a loss first
    pass storage, or one number for each row
    pass what (a collector or )?env\.step returned
    rename it
    use \[{}, T\], env by env as a collector delivers it, or that flattened
    use an env (whose action is Categorical or OneHot|that says how many it has)
    use envs of one action spec
    use one discrete action for each, as a number or one\-hot
    use one of \[N\] envs, or one env alone
    use one of bytes or floats with one dimension or more
    use that of one frame, {}
    name a file that (does|ends in {})
    use USER/NAME, of letters, digits, '-', '_' and '\.', such as alice/cartpole-dqn
    use a branch, a tag or a commit( of it)?
    ask for access at {}/{}
    set HF_TOKEN( to (a token of that account|a token that may read it|one that may, of .*))?
    correct its name
    run 'hf auth login'
    try again (later|with a connection)
    make it private on the Hub
    pip install 'fastdqn\[{}\]'
    choose some that it has
    put them beside it
    use --{}={}
    use a table \[{}\] \(in JSON an object\)
    """.strip().splitlines()
    ).replace("{}", r"\{\}")
)
OBJECTS_HAVE = {
    "auto_reset": "an argument of ManiSkill's vector env",
    "autoreset_mode": "a key of the metadata of vector envs",
    "buffer_size": "an argument of SB3's DQN",
    "frame_stack": "an argument of the replay for SB3",
    "get_parameters": "a method of SB3's models",
    "norm_reward": "an argument of SB3's VecNormalize",
    "set_env": "a method of SB3's models",
    "batch_size": "an argument of vector envs of ALE and EnvPool",
    "env_type": "an argument of envpool.make",
    "make_envs": "a function of fastdqn",
    "max_capacity": "an argument of SumTreeSampler",
    "load_state_dict": "a method of learners",
    "metadata": "an attribute of envs",
    "obs_type": "an argument of ALE's envs",
    "observation": "what a forward is called with",
    "observation_space": "an attribute of streams",
    "register_buffer": "a method of modules",
    "requires_grad": "an attribute of parameters",
    "set_keys": "a method of TorchRL's losses",
    "split_trajs": "an argument of TorchRL's collectors",
    "update_priority": "a method of TorchRL's buffers",
}
PUBLIC = {
    name
    for function in (fastdqn.train, fastdqn.load, fastdqn.evaluate, fastdqn.make_envs)
    for name in inspect.signature(function).parameters
}


def options_of(command):
    """Of ``fastdqn COMMAND``, as ``--flag``."""
    options = guide_of(COMMANDS[command].run).options
    return {f"--{word}" for option in options for word in option.words} | {"--help", "--help-all"}


def commands_of(message):
    """The command that a message speaks of, or is of; else all that may show it."""
    named = re.search(r"(?:\bfastdqn |^)([a-z]+)\b", message.text)
    file = message.path.removeprefix("cli/").removesuffix(".py").partition("_")[0]
    for name in (named and named[1], file):
        if name in COMMANDS:
            return [name]
    return list(COMMANDS)


def accepts(name, text):
    """Whether a field takes a value as it stands in a message."""
    if text in ("", "{}"):
        return True
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    field = FIELDS[name]
    for tried in (value, (value,), str(value)):
        try:
            check_type(name, tried, field.type)
        except ConfigError:
            continue
        return field.range is None or not isinstance(tried, int | float) or tried in field.range
    return False


# --- what a message may name, and whether that is there ------------------------------------------
# Each yields (what it found, whether that is so).


def flags(message, clause):
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*\b", clause):
        yield flag, any(flag in options_of(name) for name in commands_of(message))


def commands(message, clause):
    for name in re.findall(r"(?:['`:] ?|^)fastdqn ([a-z-]+)\b", clause):
        yield f"fastdqn {name}", name in COMMANDS
    for name in re.findall(r"python -m ([\w.]+)", clause):
        yield f"python -m {name}", importlib.util.find_spec(name) is not None


def installs(message, clause):
    for name, extra in re.findall(r"pip install '([\w-]+)\[([\w-]+)\]'", clause):
        if name == "fastdqn":
            project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
            yield extra, extra in project["optional-dependencies"]
        else:
            yield extra, extra in (metadata.metadata(name).get_all("Provides-Extra") or ())


def dotted_names(message, clause):
    pattern = r"\b((?:fastdqn|gymnasium|torch|numpy|ale_py)(?:\.\w+)+)(\([^()]*\))?"
    for dotted, call in re.findall(pattern, clause):
        try:
            thing = resolve(dotted)
        except (ImportError, AttributeError):
            yield dotted, False
            continue
        yield dotted, True
        if call:
            names = re.findall(r"(\w+)=", call)
            yield f"{dotted}{call}", takes(thing, names)


def members(message, clause):
    from gymnasium.vector import AutoresetMode

    for name in re.findall(r"(?<![.\w])AutoresetMode\.(\w+)", clause):
        yield f"AutoresetMode.{name}", hasattr(AutoresetMode, name)
    for name in re.findall(r"(?<![.\w])([A-Z]\w+)\(\.\.\.\)", clause):
        yield (
            name,
            hasattr(fastdqn, name)
            or any(
                hasattr(resolve(f"fastdqn.{place}"), name)
                for place in ("envs.atari", "networks.spec")
            ),
        )


def methods(message, clause):
    for name in re.findall(r"\b(?:network\.|\b)(\w+)\((?:actions)?\)", clause):
        places = (EnvStream, NativeVectorEnv, nn.Module, Tensor)
        yield f"{name}()", any(hasattr(place, name) for place in places)
    for name, parameter in re.findall(r"(?<![.\w])(load)\(\.\.\., (\w+)=\)", clause):
        yield f"{name}({parameter}=)", takes(getattr(fastdqn, name), [parameter])


def env_ids(message, clause):
    for env_id in re.findall(r"(?:[A-Za-z]+/)?[A-Z{][\w{}]*-v\d+", clause):
        try:
            check_env_id(env_id.replace("{}", "Pong"))
        except EnvError:
            yield env_id, False
        else:
            yield env_id, True


def assignments(message, clause):
    """``loss = 'huber'``: a field and a value it may have, or something of the function's."""
    for name, value in re.findall(r"\b(\w+) = ('[^']*'|\([^)]*\)|[\w.{}]+)", clause):
        value, there = value.rstrip("."), {*message.parameters, *OBJECTS_HAVE, *PUBLIC, *FIELDS}
        if name in FIELDS and value not in FIELDS:
            yield f"{name} = {value}", accepts(name, value)
        else:
            yield f"{name} = {value}", name in there


def names(message, clause):
    """Names of several words, and what ``set`` sets."""
    found = re.findall(r"(?<![\w./:'-])[a-z]+(?:_[a-z0-9]+)+\b(?![.(/])", clause)
    said = r"\b(?:set|raise|lower|leave|than|with) ([a-z_]+)(?= out\b|,|$| and\b)"
    found += re.findall(said, clause)
    for name in dict.fromkeys(found):
        if name in ("it", "them", "that", "one"):
            continue
        known = {*FIELDS, *message.parameters, *OBJECTS_HAVE, *PUBLIC}
        yield name, name in known or any(field.startswith(name) for field in FIELDS)


def choices(message, clause):
    """``use auto, cpu or cuda``: values of the field that the message begins with."""
    value = r"'?[a-z_][\w:<>-]*'?|\(\d+, \d+\)"
    several = rf"(?:(?:{value})(?:, | or |$|(?= with)))+"
    said = re.fullmatch(rf"use (?:one such as )?({several})( with .*)?", clause)
    subject = message.subject.partition(" ")[0]
    if not said or subject not in FIELDS | dict.fromkeys(message.parameters):
        return
    for word in re.findall(value, said[1]):
        if word != "or":
            yield f"{subject} = {word}", subject not in FIELDS or accepts(subject, word)


CHECKS = [flags, commands, installs, dotted_names, members, methods, env_ids, assignments, names,
          choices]  # fmt: skip
ANYWHERE = [flags, commands, installs, dotted_names]


def wrong_in(message):
    """What cannot be followed in a message."""
    if message.path == "config/document.py":  # a page
        return []
    found = {}
    for check in ANYWHERE:
        found |= dict(check(message, message.text))
    unseen = []
    for clause in message.clauses:
        here = {}
        for check in CHECKS:
            here |= dict(check(message, clause))
        if not here and not PLAIN.fullmatch(clause):
            unseen.append(clause)
        found |= here
    return [*(name for name, is_there in found.items() if not is_there), *unseen]
