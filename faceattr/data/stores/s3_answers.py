"""What the error answers of an S3 store mean: about one object, about all of them, or about this moment.

Permanent answers are told apart from those that ask to come again, so that nobody waits for what will not change.
"""

from typing import Literal

import botocore.exceptions

# What the store's error codes mean; the codes that no table names are told apart by their HTTP status (`judge_answer`).
# Only what the store itself says of the object: a bare 404 may come from a gateway that has lost its backend.
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
# Refusals of the caller, the bucket or the request as such, whatever the object. Waiting will not change them.
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
# Refused for want of a right, to this object or to all of them.
_DENIED_CODES = frozenset({"AccessDenied", "AllAccessDisabled", "403", "Forbidden"})
# Answers of status 4xx that ask to come again; so do all 5xx.
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
    """The store's code, or the HTTP status where there is none."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def judge_answer(error: botocore.exceptions.ClientError, verb: str) -> Verdict:
    """What an error answer is about."""
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
    # An odd key, a header that the store does not know ... whatever it is, asking again will not change it.
    return "this object or all" if verb == "read" else "the store"


def words_of(error: botocore.exceptions.ClientError) -> str:
    """The store's own words, in one line."""
    message = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
    return f"{code_of(error)}: {message}"[:_MAX_WORDS] if message else code_of(error)


def find_remedy(error: botocore.exceptions.ClientError, verb: str, *, conditional: bool, checksums: bool) -> str:
    """What mends a permanent refusal, as far as its words and the request tell; one or two sentences.

    Args:
        error: the refusal.
        verb: what was tried: read, write, list, delete.
        conditional: whether the request had `If-None-Match`.
        checksums: whether boto3 adds its own checksums, as newer versions do by default.
    """
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code, words = code_of(error), words_of(error).lower()
    # A store that does not know a header says so in one of these ways; 403 and the like are about rights.
    if code in _STORE_CODES - {"NotImplemented"} or status not in (400, 405, 411, 415, 422, 501):
        return "Check the bucket's name, the endpoint and the rights of the credentials in the environment or role."
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
