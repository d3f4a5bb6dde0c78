"""A camera and its login, on their way to a worker."""

from pathlib import Path

from crow.capture.v1 import worker_pb2 as pb
from crow.cctv.v1 import ingest_pb2
from crow_daemon.registry.camera import (
    Blur,
    Camera,
    CaptureMode,
    GateMode,
    ReaderChoice,
    Recording,
    RtspAddress,
    Transport,
)
from crow_daemon.registry.secret import Credentials, Secret
from crow_daemon.registry.url import CameraUrl
from crow_shared.zones import Polygon, zone_from_wire, zone_to_wire


def start_order(
    camera: Camera, credentials: Credentials | None, resume_after_us: int | None, first_in_s: float = 0.0
) -> pb.Order:
    """Tells a worker to read a camera; a recording goes on behind `resume_after_us`, a capture time.

    Its first attempt is to be made in `first_in_s` seconds.

    The message holds the password: it goes to the worker's socket alone.
    """
    login = None
    if credentials is not None:
        login = pb.Login(username=credentials.username, password=credentials.password.reveal())
    start = pb.StartCamera(
        camera=camera_to_wire(camera), login=login, resume_after_us=resume_after_us, first_in_s=first_in_s
    )
    return pb.Order(start_camera=start)


def credentials_from_wire(order: pb.StartCamera) -> Credentials | None:
    """What to log in with; None where the camera asks for nothing."""
    if not order.HasField("login"):
        return None
    return Credentials(order.login.username, Secret(order.login.password))


def camera_to_wire(camera: Camera) -> pb.Camera:
    """The protobuf message of a camera."""
    message = pb.Camera(
        id=camera.id,
        name=camera.name,
        sample_interval_ms=camera.sample_interval_ms,
        gate=camera.gate,
        heartbeat_s=camera.heartbeat_s,
        jpeg_long_side=camera.jpeg_long_side,
        jpeg_quality=camera.jpeg_quality,
        mode=camera.mode,
        reader=camera.reader,
        motion_ttl_s=camera.motion_ttl_s,
        pre_roll=camera.pre_roll,
        masks=[_polygon_to_wire(mask) for mask in camera.masks],
        blur=camera.blur,
        zones=[zone_to_wire(zone) for zone in camera.zones],
        grid_row=camera.grid_row,
        grid_column=camera.grid_column,
        enabled=camera.enabled,
        finished=camera.finished,
        revision=camera.revision,
    )
    match camera.source:
        case RtspAddress(url, username, transport, sub_url):
            sub = None if sub_url is None else sub_url.text
            message.rtsp.CopyFrom(pb.RtspAddress(url=url.text, username=username, transport=transport, sub_url=sub))
        case Recording(path, start_us):
            message.recording.CopyFrom(pb.Recording(path=str(path), start_us=start_us))
    return message


def camera_from_wire(message: pb.Camera) -> Camera:
    """The camera of a protobuf message. Raises CrowError(INVALID) and ValueError for what is no camera."""
    return Camera(
        id=message.id,
        name=message.name,
        source=_source_from_wire(message),
        sample_interval_ms=message.sample_interval_ms,
        gate=GateMode(message.gate),
        heartbeat_s=message.heartbeat_s,
        jpeg_long_side=message.jpeg_long_side,
        jpeg_quality=message.jpeg_quality,
        mode=CaptureMode(message.mode),
        reader=ReaderChoice(message.reader),
        motion_ttl_s=message.motion_ttl_s,
        pre_roll=message.pre_roll,
        masks=tuple(_polygon_from_wire(mask) for mask in message.masks),
        blur=Blur(message.blur),
        zones=tuple(zone_from_wire(zone) for zone in message.zones),
        grid_row=message.grid_row if message.HasField("grid_row") else None,
        grid_column=message.grid_column if message.HasField("grid_column") else None,
        enabled=message.enabled,
        finished=message.finished,
        revision=message.revision,
    )


def _source_from_wire(message: pb.Camera) -> RtspAddress | Recording:
    if message.HasField("recording"):
        return Recording(Path(message.recording.path), message.recording.start_us)
    rtsp = message.rtsp
    return RtspAddress(
        CameraUrl.parse(rtsp.url),
        rtsp.username if rtsp.HasField("username") else None,
        Transport(rtsp.transport),
        CameraUrl.parse(rtsp.sub_url) if rtsp.HasField("sub_url") else None,
    )


def _polygon_to_wire(polygon: Polygon) -> pb.Polygon:
    return pb.Polygon(points=[ingest_pb2.Point(x=x, y=y) for x, y in polygon])


def _polygon_from_wire(message: pb.Polygon) -> Polygon:
    return tuple((point.x, point.y) for point in message.points)
