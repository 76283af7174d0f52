"""What is learned, by which score, in how many steps and seconds."""
