"""A client that asks an ASGI application in this very process."""

import asyncio

import httpx


class Asking:
    """Keeps cookies from one question to the next, as a browser does."""

    def __init__(self, app, base_url="http://localhost"):
        self._app, self._base, self.cookies = app, base_url, httpx.Cookies()

    def get(self, path, **more):
        return self._ask("GET", path, **more)

    def post(self, path, **more):
        return self._ask("POST", path, **more)

    def _ask(self, method, path, content=None, **more):
        async def parts():
            for part in content:
                yield part

        async def ask():
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url=self._base, cookies=self.cookies) as client:
                streamed = content is not None and not isinstance(content, bytes | str)
                answer = await client.request(method, path, content=parts() if streamed else content, **more)
                self.cookies = client.cookies
                return answer

        return asyncio.run(ask())
