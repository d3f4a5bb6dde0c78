"""A JPEG a second with OpenCV: the loop that everybody writes first. Arguments: URL DIRECTORY."""

import os
import sys

os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "rtsp_transport;tcp"

import cv2

capture = cv2.VideoCapture(sys.argv[1], cv2.CAP_FFMPEG)
every = round(capture.get(cv2.CAP_PROP_FPS))
number = 0
while capture.grab():
    if number % every == 0:
        decoded, picture = capture.retrieve()
        cv2.imwrite(f"{sys.argv[2]}/{number:09d}.jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    number += 1
