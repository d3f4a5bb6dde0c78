"""The capture worker: a process that reads some of the cameras, apart from the daemon. Started by `crow_daemon.pool`."""
