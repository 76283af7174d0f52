"""fastdqn's parts behind other libraries' interfaces: a package for each, imported by its name.

May import training and below; nobody imports it. A library that is not installed is named by the
package that needs it, in one sentence.
"""
