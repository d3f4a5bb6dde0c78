"""The receiver's end of the worker processes: started, given frames, watched, ended and started again."""
