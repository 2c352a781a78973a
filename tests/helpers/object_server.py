"""S3, and what looks like Google Cloud Storage, on loopback: moto's server, which can be made to fail."""

import contextlib
import io
import logging
import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import formatdate, parsedate_to_datetime

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

KEY, SECRET, REGION = "a-key", "a-secret", "us-east-1"
BUCKET = "scores"


@dataclass
class Faults:
    """What goes wrong, and how often.

    An answer is lost after its request was carried out.

    Attributes
    ----------
    shares : dict of str to float
        How many of the requests have ``errors``, are ``slow``, or have ``lost answers``.
    slow_s : float
    passes_over, rejects : tuple of str
        The conditions of writes that are not looked at, or not known, such as ``"HTTP_IF_MATCH"``.
    behind_s : float
        How far the server's clock is behind this machine's.
    counts : dict of str to int
        How many had.
    """

    shares: dict[str, float] = field(default_factory=dict)
    slow_s: float = 0.0
    passes_over: tuple[str, ...] = ()
    rejects: tuple[str, ...] = ()
    wrong_credentials: bool = False
    is_read_only: bool = False
    behind_s: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    counts: Counter = field(default_factory=Counter)

    def happens(self, what):
        if self.chance.random() >= self.shares.get(what, 0):
            return False
        self.counts[what] += 1
        return True


class ObjectServer:
    """A server on a free port of this machine, run by a thread of this process."""

    def __init__(self):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.faults = Faults()
        self.requests = []
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._conditional = threading.Lock()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._server.handle_error = lambda *_: None  # a client that has lost patience hangs up
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environment(self):
        """What a user of this server sets."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
            "NO_PROXY": "127.0.0.1",
            "GOOGLE_BASE_URL": self.url,
            "GOOGLE_BEARER_TOKEN": "a-token",
        }

    def boto(self):
        """Return a client that has nothing of ours in it."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name=REGION,
        )

    def objects(self, prefix, bucket=BUCKET):
        """Return every object below a prefix, by the rest of its key."""
        client = self.boto()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return {
            key.removeprefix(f"{prefix}/"): client.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in keys
        }

    @contextlib.contextmanager
    def failing(self, **faults):
        """Let requests fail while a test runs, and yield what counts how often they did."""
        self.faults = Faults(**faults)
        try:
            yield self.faults
        finally:
            self.faults = Faults()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ, start_response):
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        is_ours = "botocore" not in environ.get("HTTP_USER_AGENT", "").lower()  # else the tests' own client
        if is_ours:
            self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"]))
        status, headers, content = self._outcome(environ, body, self.faults if is_ours else Faults())
        start_response(status, headers)
        return [content]

    def _outcome(self, environ, body, faults):
        if faults.wrong_credentials:
            return refusal("403 Forbidden", "InvalidAccessKeyId")
        if faults.is_read_only and environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return refusal("403 Forbidden", "AccessDenied")
        if faults.happens("slow"):
            time.sleep(faults.slow_s)
        if faults.happens("errors"):
            return refusal("503 Service Unavailable", "SlowDown")
        environ = in_words_of_s3(environ)
        if any(condition in environ for condition in faults.rejects):
            return refusal("501 Not Implemented", "NotImplemented")
        for condition in faults.passes_over:
            environ.pop(condition, None)
        if is_google(environ) and environ["REQUEST_METHOD"] == "DELETE":
            status, _, _ = self._ask(environ | {"REQUEST_METHOD": "HEAD"}, b"")
            if status.startswith("404"):
                return refusal("404 Not Found", "NoSuchKey")
        # Moto looks and then writes; what is sold as S3 does both at once.
        is_conditional = "HTTP_IF_NONE_MATCH" in environ or "HTTP_IF_MATCH" in environ
        with self._conditional if is_conditional else contextlib.nullcontext():
            if self._is_another_version(environ):
                return refusal("412 Precondition Failed", "PreconditionFailed")
            outcome = told_later(self._ask(environ, body), faults.behind_s)
        if faults.happens("lost answers"):
            return refusal("500 Internal Server Error", "InternalError")
        return outcome

    def _is_another_version(self, environ):
        """Return whether a request is on the condition of an object that is not there; Moto does not ask."""
        expected = environ.pop("HTTP_IF_MATCH", None)
        if expected is None or environ["REQUEST_METHOD"] != "PUT":
            return False
        status, headers, _ = self._ask(environ | {"REQUEST_METHOD": "HEAD", "CONTENT_LENGTH": "0"}, b"")
        versions = [value for name, value in headers if name.lower() in ("etag", "x-goog-generation")]
        return not status.startswith("200") or expected not in versions

    def _ask(self, environ, body):
        content, status, headers = run_wsgi_app(
            self._moto, environ | {"wsgi.input": io.BytesIO(body)}, buffered=True
        )
        mine, theirs = ("x-amz-meta-", "x-goog-meta-") if is_google(environ) else ("", "")
        tags = [value for name, value in headers if name.lower() == "etag"]
        if is_google(environ) and tags:
            headers = [*headers, ("x-goog-generation", str(int(tags[0].strip('"')[:12], 16)))]
        return status, [(name.replace(mine, theirs), value) for name, value in headers], b"".join(content)


def told_later(outcome, behind_s):
    """Return an answer with the times that it would have if the server's clock were behind."""
    status, headers, content = outcome

    def shifted(found):
        told = datetime.strptime(found[0].decode(), "%Y-%m-%dT%H:%M:%S.%fZ")
        return (told - timedelta(seconds=behind_s)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")[:-4].encode() + b"Z"

    if behind_s:
        content = re.sub(rb"(?<=<LastModified>)[^<]+", shifted, content)
        headers = [
            (
                name,
                formatdate(parsedate_to_datetime(value).timestamp() - behind_s, usegmt=True)
                if name.lower() == "last-modified"
                else value,
            )
            for name, value in headers
        ]
        headers = [
            (name, str(len(content)) if name.lower() == "content-length" and content else value)
            for name, value in headers
        ]
    return status, headers, content


def is_google(environ):
    return environ.get("HTTP_AUTHORIZATION", "").startswith("Bearer")


def in_words_of_s3(environ):
    """Return a request to Google's XML interface as the same one to S3, whose elder sister it is."""
    environ = dict(environ)
    if is_google(environ):
        generation = environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH")
        if generation == "0":
            environ["HTTP_IF_NONE_MATCH"] = "*"
        elif generation:
            environ["HTTP_IF_MATCH"] = generation
        for name in [name for name in environ if name.startswith("HTTP_X_GOOG_META_")]:
            environ[name.replace("X_GOOG_META", "X_AMZ_META")] = environ.pop(name)
    return environ


def refusal(status, code):
    content = f"<Error><Code>{code}</Code><Message>as was asked for</Message></Error>".encode()
    return status, [("Content-Type", "application/xml"), ("Content-Length", str(len(content)))], content
