"""The commands, a file per kind; each checks its arguments and calls the library, which it imports only when it is called."""
