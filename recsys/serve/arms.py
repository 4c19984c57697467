"""A/B: a user's bucket by a stable hash and a key, and which policy the bucket has."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import ConfigError
from recsys.predict import POLICIES

BUCKETS = 100


@dataclass(frozen=True)
class Arms:
    """Policies with their shares of the buckets, in order; another key deals the users anew."""

    shares: Mapping[str, int]
    key: str = "recurra"

    def __post_init__(self) -> None:
        for policy, share in self.shares.items():
            if policy not in POLICIES:
                raise ConfigError(f"no policy {policy!r}; there are {', '.join(POLICIES)}.")
            if share < 0:
                raise ConfigError(f"the share of {policy} must not be negative, got {share}.")
        if sum(self.shares.values()) != BUCKETS:
            raise ConfigError(f"shares add up to {sum(self.shares.values())}, not to {BUCKETS}.")

    @staticmethod
    def read(text: str, key: str = "recurra") -> "Arms":
        """Such as `inslate` or `greedy=20,inslate=80`.

        Raises:
            ConfigError: not of this form, an unknown policy, shares that do not add up to 100.
        """
        shares: dict[str, int] = {}
        for word in text.split(","):
            policy, equals, share = word.strip().partition("=")
            if equals and not share.strip().isdigit():
                raise ConfigError(f"a share is a whole number of 100, got {word!r}.")
            shares[policy.strip()] = int(share) if equals else BUCKETS
        return Arms(shares, key)

    def bucket(self, user: str) -> int:
        """0..99."""
        return bucket(user, self.key)

    def policy(self, user: str) -> str:
        """Whose bucket the user is in."""
        edge, own = 0, self.bucket(user)
        for policy, share in self.shares.items():
            edge += share
            if own < edge:
                return policy
        raise AssertionError("shares add up to all buckets")


def bucket(user: str, key: str = "recurra", count: int = BUCKETS) -> int:
    """A stable bucket of a user."""
    data = hashlib.blake2b(user.encode(), key=key.encode()[:64], digest_size=8).digest()
    return int.from_bytes(data, "big") % count
