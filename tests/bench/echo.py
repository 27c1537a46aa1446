"""The bare echo, what everything else is compared with: Starlette on uvicorn as anybody would write it."""

import os

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def predict(request: Request) -> Response:
    """Answer with the record that was sent."""
    record = msgspec.json.decode(await request.body())
    return Response(msgspec.json.encode(record), media_type="application/json")


app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(os.environ["CALSVC_PORT"]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
