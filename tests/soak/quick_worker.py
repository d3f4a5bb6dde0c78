"""A capture worker that tries again almost at once, so that many reconnects take little time."""

from crow_daemon.capture import runner
from crow_daemon.worker.main import main

if __name__ == "__main__":
    runner.CameraRunner.__init__.__kwdefaults__.update(reconnect_s=(0.01, 0.05))
    main()
