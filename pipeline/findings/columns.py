"""Which columns the findings of a run have: known, and refused where they clash, before there is a finding."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from model.errors import InputError
from model.interface import Prompt, PromptKind
from pipeline.tables.fields import describe_field, insert_fields
from pipeline.tables.schemas import COMPOSITE_FIELDS, FINDINGS_SCHEMA, TILE_REVIEW_FIELDS


def make_findings_schema(prompts: Sequence[Prompt], *, is_composed: bool = False) -> pa.Schema:
    """Give the columns of ``tiles.parquet`` for some prompts: each of kind `ask` has its own.

    Args:
        prompts: The questions of the run.
        is_composed: Whether each scene is made of several dates.

    Raises:
        InputError: a prompt has the name of another column.
    """
    schema = insert_fields(FINDINGS_SCHEMA, COMPOSITE_FIELDS if is_composed else (), before="status")
    position = schema.get_field_index("model_id")
    for prompt in prompts:
        if prompt.kind is not PromptKind.ASK:
            continue
        if prompt.name in {*schema.names, *(field.name for field in TILE_REVIEW_FIELDS), "bbox"}:
            raise InputError(
                f"prompts: {prompt.name!r} of kind ask is the name of another column of tiles.parquet",
                expected="a name of its own",
                remedy=f"rename it, for example to {prompt.name}_answer",
            )
        schema = schema.insert(position, describe_field(prompt.name, pa.string(), f"Answer to: {prompt.text.strip()}"))
        position += 1
    return schema
