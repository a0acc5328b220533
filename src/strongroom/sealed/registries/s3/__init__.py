"""A registry in a bucket of an S3 store: objects laid out as an OCI image layout. Needs the extra `s3` (boto3)."""

from __future__ import annotations

from strongroom.sealed.registries.s3.bucket import Bucket
from strongroom.sealed.registries.s3.registry import S3Registry

__all__ = ["Bucket", "S3Registry"]
