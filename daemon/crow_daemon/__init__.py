"""The edge daemon: camera → sampler → gate → encoder → spool → uplink."""
