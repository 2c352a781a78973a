"""Ways into buckets: clients with credentials and retries, and what their errors mean to a user.

This is the package's only door to obstore, an optional library. Credentials come the usual ways: S3's from
the environment, the profiles in ``~/.aws``, a container's or machine's role, as boto3 finds them; Google's
from its application default credentials. Settings such as ``AWS_ENDPOINT_URL`` are obstore's own.
"""

import os
import re
from datetime import timedelta
from typing import Any

from tism_scan.errors import AccessError, ReadOnlyError, StorageError, TismScanError
from tism_scan.optional import required
from tism_scan.storage.places import Url

BACKOFF = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=15), "base": 2}
CONNECT_S, RETRY_S = 10, 180
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]+)</Code>")
_KIND = re.compile(r"kind: (Connect|Timeout|Request|Decode|Body|Interrupted)\b")
_NO_BUCKET = re.compile(r"NoSuchBucket|bucket (does not|doesn't) exist", re.IGNORECASE)
_NO_CREDENTIALS = re.compile(r"169\.254\.|metadata\.google|token request|[Cc]redential")


def open_bucket(place: Url, prefix: str | None, waits: dict[str, Any], n_retries: int) -> Any:
    """Return obstore's client for a bucket.

    Raises
    ------
    AccessError
        If obstore is not installed, or there are no credentials.
    """
    obstore = require_obstore()
    settings: dict[str, Any] = {
        "prefix": prefix,
        "client_options": {"connect_timeout": timedelta(seconds=CONNECT_S), **waits},
        "retry_config": {
            "max_retries": n_retries,
            "retry_timeout": timedelta(seconds=RETRY_S),
            "backoff": BACKOFF,
        },
    }
    try:
        if place.scheme == "gs":
            settings["client_options"]["allow_http"] = os.environ.get("GOOGLE_BASE_URL", "").startswith(
                "http:"
            )
            return obstore.store.GCSStore(place.host, **settings)
        if _is_true(os.environ.get("AWS_ALLOW_HTTP", "")):
            settings["client_options"]["allow_http"] = True
        return obstore.store.S3Store(place.host, **settings, **_s3_settings(place))
    except (obstore.exceptions.BaseError, ValueError) as error:
        raise explanation(error, place, str(place), "open") from None


def _s3_settings(place: Url) -> dict[str, Any]:
    """Return what boto3 knows of credentials, region and endpoint, beside what obstore itself knows."""
    if _is_true(os.environ.get("AWS_SKIP_SIGNATURE", "")):
        return {}
    exceptions, botocore_session, auth = (
        _required(name) for name in ("botocore.exceptions", "botocore.session", "obstore.auth.boto3")
    )
    try:
        session = botocore_session.Session()
        scoped = session.get_scoped_config()
        if session.get_credentials() is None:
            raise _no_credentials(place, "none were found")
    except exceptions.BotoCoreError as error:
        raise _no_credentials(place, str(error)) from None
    settings: dict[str, Any] = {"credential_provider": auth.Boto3CredentialProvider(session)}
    if not {"AWS_REGION", "AWS_DEFAULT_REGION"} & os.environ.keys():
        settings["region"] = session.get_config_variable("region") or "us-east-1"
    if "endpoint_url" in scoped and not any(name.startswith("AWS_ENDPOINT") for name in os.environ):
        settings["endpoint"] = scoped["endpoint_url"]
    return settings


def require_obstore() -> Any:
    """Return obstore, or say how to install it."""
    for name in ("obstore.exceptions", "obstore.store"):
        _required(name)
    return _required("obstore")


def _required(module: str) -> Any:
    return required(module, "object storage", "'tism-scan[cloud]'", AccessError)


def _is_true(text: str) -> bool:
    return text.lower() in ("1", "true", "yes", "on", "y")


def _no_credentials(place: Url, reason: str) -> AccessError:
    how = (
        "set GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`"
        if place.scheme == "gs"
        else "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or AWS_SKIP_SIGNATURE=true "
        "for a public bucket"
    )
    return AccessError(f"there are no credentials for {place} ({reason}); {how}")


def names_no_bucket(error: Exception) -> bool:
    """Return whether an error of obstore's says that the bucket is not there, rather than an object."""
    return _NO_BUCKET.search(str(error)) is not None


def is_busy(error: Exception) -> bool:
    """Return whether a service answers, but cannot do now what it was asked for."""
    status = _STATUS.search(str(error))
    return status is not None and status[1].startswith("5")


def explanation(error: Exception, place: Url, url: str, doing: str) -> TismScanError:
    """Return an error of ours for one of obstore's, whose text is the only place that tells them apart."""
    text = str(error)
    first_line = " ".join(text.split("Debug source:")[0].split())
    status, code = _STATUS.search(text), _CODE.search(text)
    reason = " ".join([*(found[1] for found in (status, code) if found)])
    done = {"write": "written", "read": "read", "list": "listed", "remove": "removed"}.get(doing, "opened")
    if names_no_bucket(error) or (isinstance(error, FileNotFoundError) and doing == "write"):
        return AccessError(
            f"there is no bucket {place.host!r} for {place}; expected one that exists: make it, or correct "
            "the name, AWS_ENDPOINT_URL or AWS_REGION"
        )
    if isinstance(error, FileNotFoundError):
        return AccessError(f"there is nothing at {url}; check it")
    if "169.254." in first_line or (status is None and _NO_CREDENTIALS.search(first_line)):
        return _no_credentials(place, "none were found, and this machine has no role")
    if status is not None and status[1] in ("401", "403"):
        refused = (
            f"{url} may not be {done} with these credentials ({reason}); check them, and what they allow"
        )
        is_for_reading = status[1] == "403" and doing in ("write", "remove")
        return ReadOnlyError(refused, reason) if is_for_reading else AccessError(refused)
    if (status is not None and status[1].startswith("3")) or "redirect" in first_line.lower():
        return AccessError(f"{place} is in another region; set AWS_REGION to that of the bucket")
    if not reason:
        kind = _KIND.search(text)
        kinds = {
            "Connect": "no connection",
            "Timeout": "no answer in time",
            "Request": "the connection broke",
        }
        reason = kinds.get(kind[1], "") if kind else ""
        reason = reason or first_line.rpartition(" - ")[2][:200]
    return StorageError(
        f"{url} cannot be {done} ({reason}); what is finished is kept: run the same command again once the "
        "service answers"
    )
