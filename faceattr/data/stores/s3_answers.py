"""The meaning of an S3 store's error answers: about one object, about all objects, or temporary.

Permanent answers are distinguished from temporary ones, so that nobody waits for something that cannot change.
"""

from typing import Literal

import botocore.exceptions

# Meanings of the store's error codes; codes in no table are classified by their HTTP status (`judge_answer`).
# "Missing" needs the store's own statement about the object: a bare 404 may come from a gateway without its backend.
_MISSING_CODES = frozenset({"NoSuchKey"})
EXISTS_CODES = frozenset({"PreconditionFailed", "412"})
# Facts about one object, whoever asks: it is archived, or no object can have this name.
_OBJECT_CODES = frozenset(
    {
        "InvalidObjectState",
        "KeyTooLongError",
        "KeyTooLong",
        "InvalidURI",
        "InvalidObjectName",
        "XMinioInvalidObjectName",
    }
)
# Refusals of the caller, the bucket or the request itself, whatever the object. Waiting does not change them.
_STORE_CODES = frozenset(
    {
        "401",
        "AccountProblem",
        "AuthFailure",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "ExpiredTokenException",
        "IllegalLocationConstraintException",
        "InvalidAccessKeyId",
        "InvalidBucketName",
        "InvalidClientTokenId",
        "InvalidPayer",
        "InvalidSecurity",
        "InvalidToken",
        "MissingSecurityHeader",
        "NoSuchBucket",
        "NotImplemented",
        "NotSignedUp",
        "PermanentRedirect",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
# A permission is missing, for this object or for all objects.
_DENIED_CODES = frozenset({"AccessDenied", "AllAccessDisabled", "403", "Forbidden"})
# Answers with a 4xx status that are temporary, as all 5xx are.
_RETRIED_CODES = frozenset(
    {
        "BadDigest",
        "BandwidthLimitExceeded",
        "IncompleteBody",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "SlowDown",
        "TooManyRequests",
    }
)
_RETRIED_STATUSES = frozenset({404, 408, 409, 412, 425, 429})
Verdict = Literal["missing", "this object", "this object or all", "the store", "transient"]
_MAX_WORDS = 200


def code_of(error: botocore.exceptions.ClientError) -> str:
    """Returns the store's error code, or the HTTP status if there is none."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def judge_answer(error: botocore.exceptions.ClientError, verb: str) -> Verdict:
    """Classifies an error answer."""
    code = code_of(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _MISSING_CODES:
        return "missing"
    if code in _OBJECT_CODES:
        return "this object"
    if code in _STORE_CODES:
        return "the store"
    if code in _DENIED_CODES:
        return "this object or all"
    if code in _RETRIED_CODES or status in _RETRIED_STATUSES or "Throttl" in code or not 400 <= status < 500:
        return "transient"
    # An odd key, a header that the store does not know ... whatever the cause, a retry will not change it.
    return "this object or all" if verb == "read" else "the store"


def words_of(error: botocore.exceptions.ClientError) -> str:
    """Returns the store's own message in one line."""
    message = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
    return f"{code_of(error)}: {message}"[:_MAX_WORDS] if message else code_of(error)


def find_remedy(error: botocore.exceptions.ClientError, verb: str, *, conditional: bool, checksums: bool) -> str:
    """Returns how to resolve a permanent refusal, as far as its text and the request tell, in one or two sentences.

    Args:
        error: the refusal.
        verb: the attempted operation: read, write, list, delete.
        conditional: whether the request had `If-None-Match`.
        checksums: whether boto3 adds its own checksums, as newer versions do by default.
    """
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code, words = code_of(error), words_of(error).lower()
    # A store that does not know a header says so in one of these ways; 403 and similar concern permissions.
    if code in _STORE_CODES - {"NotImplemented"} or status not in (400, 405, 411, 415, 422, 501):
        return "Check the bucket's name, the endpoint and the permissions of the credentials (environment or role)."
    about_condition = any(word in words for word in ("none-match", "conditional", "precondition"))
    about_checksum = any(word in words for word in ("checksum", "sha256", "crc", "trailer", "chunked", "content-md5"))
    remedies = []
    if checksums and verb in ("read", "write", "delete") and not (about_condition and not about_checksum):
        name = "AWS_RESPONSE_CHECKSUM_VALIDATION" if verb == "read" else "AWS_REQUEST_CHECKSUM_CALCULATION"
        remedies.append(f"If the store does not know boto3's checksums, set {name}=when_required.")
    if conditional and not (about_checksum and not about_condition):
        remedies.append(
            "If it does not know If-None-Match (conditional writes), no run can be written here: give --output another "
            "store or a local folder."
        )
    return " ".join(remedies) or "Check the endpoint, and whether the store knows this request."
