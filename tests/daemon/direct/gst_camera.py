"""Serves files over RTSP by gst-rtsp-server, by the system's Python: gst_camera.py [--login USER PASSWORD] NAME=FILE

Prints the port when it is ready. Needs gir1.2-gst-rtsp-server-1.0, gstreamer1.0-rtsp, gstreamer1.0-plugins-good and
-bad, python3-gi.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402 the versions come first


def main(arguments: list[str]) -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service("0")
    login = arguments[1:3] if arguments[0] == "--login" else []
    for argument in arguments[3 if login else 0 :]:
        name, _, path = argument.partition("=")
        codec = "h265" if name == "hevc" else "h264"
        factory = GstRtspServer.RTSPMediaFactory.new()
        pay = f"rtp{codec}pay name=pay0 pt=96 config-interval=-1"
        factory.set_launch(f"( filesrc location={path} ! qtdemux ! {codec}parse ! {pay} )")
        if login:
            permissions = GstRtspServer.RTSPPermissions.new()
            for what in ("access", "construct"):
                permissions.add_permission_for_role("user", f"media.factory.{what}", True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory(f"/{name}", factory)
    if login:
        auth = GstRtspServer.RTSPAuth.new()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        token = GstRtspServer.RTSPToken.new()
        token.set_string("media.factory.role", "user")
        auth.add_digest(*login, token)
        server.set_auth(auth)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


main(sys.argv[1:])
