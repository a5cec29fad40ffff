"""The engine in a resident child process, so that the window never waits: the panel talks to it through a Worker."""
