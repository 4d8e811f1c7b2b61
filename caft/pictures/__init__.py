"""Picture files to RGB: which can be opened here, how they are read, and how pixels of any kind become colours."""
