"""A frame as a request to `POST /v1/chat/completions`.

Format: https://platform.openai.com/docs/api-reference/chat. vLLM, llama-server and Ollama all take a picture as a data
URL and `response_format` of type `json_schema`; the picture is always a JPEG made here out of pixels, so nothing that
came from outside reaches a server's decoder.
"""

import base64
from typing import Any

import cv2

from crow_receiver.vision.openai.answer_schema import answer_schema
from crow_receiver.vision.pixels import Pixels
from crow_receiver.vision.port import VisionRequest
from crow_receiver.vision.prompt import Prompt
from crow_receiver.vision.zones import areas

_JPEG_QUALITY = 90


def question_of(
    request: VisionRequest, picture: Pixels, prompt: Prompt, long_side: int, max_tokens: int
) -> dict[str, Any]:
    """The request's body, but for `model` and `seed`; the picture is made smaller where its longer side is longer."""
    schema = answer_schema(areas(request.zones), request.brief.products)
    url = "data:image/jpeg;base64," + base64.b64encode(_jpeg(picture, long_side)).decode("ascii")
    return {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": prompt.instructions.strip()},
                    {"type": "image_url", "image_url": {"url": url}},
                    {"type": "text", "text": prompt.question_for(request)},
                ],
            }
        ],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "scene", "strict": True, "schema": schema},
        },
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": False,
    }


def _jpeg(picture: Pixels, long_side: int) -> bytes:
    height, width = picture.shape[:2]
    share = long_side / max(height, width)
    if share < 1:
        size = (max(1, round(width * share)), max(1, round(height * share)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(picture.dtype, copy=False)
    _, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return data.tobytes()
