"""The tables of a broker's database, and their version.

Knows: names and types of columns. Does not know: who reads or writes them (`sqlite`). A database of a higher version is refused,
and one of a lower version is given the tables that it lacks. All are STRICT (sqlite.org/stricttables.html). Version 2: cells, their
requests, limits of keys. Version 3: administrators; origins of keys, orders about them, their destruction; revocations, notes about
leases, boots; what opens members of leaves.
"""

from __future__ import annotations

import sqlalchemy as sa

SCHEMA_VERSION = 3
DESTROYED = "destroyed"
"""The state of a key whose rows hold nothing wrapped any more."""

schema = sa.MetaData()
Meta = sa.Table(
    "meta", schema, sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
)
Nonces = sa.Table(
    "nonces",
    schema,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("nonce", sa.LargeBinary, primary_key=True),
    sa.Column("expires", sa.Integer, nullable=False, index=True),
    sqlite_with_rowid=False,
)
Answers = sa.Table(
    "answers",
    schema,
    sa.Column("request", sa.Text, primary_key=True),
    sa.Column("released", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("until", sa.Integer, nullable=False, index=True),
)
Keys = sa.Table(
    "keys",
    schema,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("policy_id", sa.Text, nullable=False),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created", sa.Integer, nullable=False),
)
Policies = sa.Table(
    "policies",
    schema,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
)
Leases = sa.Table(
    "leases",
    schema,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("keyset", sa.Text, nullable=False),
    sa.Column("statement", sa.Text, nullable=False),
    sa.Column("policy_id", sa.Text, nullable=False),
    sa.Column("key_ids", sa.Text, nullable=False),
    sa.Column("granted", sa.Integer, nullable=False),
    sa.Column("expires", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("renewals", sa.Integer, nullable=False),
    sa.Column("chain", sa.Text, nullable=False),
    sa.Column("receipt_key", sa.LargeBinary, nullable=False),
    sa.Column("receipts_sequence", sa.Integer, nullable=False),
)
Leaves = sa.Table(
    "leaves",
    schema,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("leaf", sa.LargeBinary, nullable=False),
)
Openings = sa.Table(
    "openings",
    schema,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("member", sa.Text, primary_key=True),
    sa.Column("salt", sa.LargeBinary, nullable=False),
    sa.Column("value", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
Cells = sa.Table(
    "cells",
    schema,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("policy_id", sa.Text, nullable=False),
    sa.Column("limit", sa.Integer),
    sa.Column("output_key", sa.Text),
    sa.Column("value", sa.Integer, nullable=False),
    sa.Column("digest", sa.Text),
    sa.Column("changes", sa.Integer, nullable=False),
    sa.Column("created", sa.Integer, nullable=False),
    sa.CheckConstraint("value >= 0"),
)
CellAsks = sa.Table(
    "cell_asks",
    schema,
    sa.Column("lease_id", sa.Text, primary_key=True),
    sa.Column("nonce", sa.LargeBinary, primary_key=True),
    sqlite_with_rowid=False,
)
KeyLimits = sa.Table(
    "key_limits",
    schema,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("limit", sa.Integer, nullable=False),
    sa.Column("used", sa.Integer, nullable=False),
)
Administrators = sa.Table(
    "administrators",
    schema,
    sa.Column("fingerprint", sa.Text, primary_key=True),
    sa.Column("appointment", sa.LargeBinary, nullable=False),
    sa.Column("added_by", sa.Text, nullable=False),
    sa.Column("added", sa.Integer, nullable=False),
)
ImportedKeys = sa.Table(
    "imported_keys",
    schema,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
)
KeyOrders = sa.Table(
    "key_orders",
    schema,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("least", sa.Integer, primary_key=True),
    sa.Column("since", sa.Integer, nullable=False),
)
Destructions = sa.Table(
    "destructions",
    schema,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("envelope", sa.LargeBinary, nullable=False),
)
Decisions = sa.Table(
    "decisions",
    schema,
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("decision", sa.LargeBinary, nullable=False),
    sa.Column("until", sa.Integer, nullable=False, index=True),
)
Collaterals = sa.Table(
    "collaterals",
    schema,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("collateral", sa.LargeBinary, nullable=False),
    sa.Column("until", sa.Integer, nullable=False, index=True),
)
Revocations = sa.Table(
    "revocations",
    schema,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("since", sa.Integer, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)
Notes = sa.Table(
    "lease_notes",
    schema,
    sa.Column("lease_id", sa.Text, primary_key=True),
    sa.Column("subjects", sa.Text, nullable=False),
    sa.Column("boot", sa.Text, nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
)
KeyBoots = sa.Table(
    "key_boots",
    schema,
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("boot", sa.Text, primary_key=True),
    sqlite_with_rowid=False,
)

for _table in schema.tables.values():  # so that a value of another type is found by the check at the start
    _table.dialect_options["sqlite"]["strict"] = True
