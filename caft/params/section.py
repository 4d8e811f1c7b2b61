"""What all parts of params.yaml have in common: how they are checked, their kinds of numbers, and overrides of a part."""

from collections.abc import Iterator
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
InnerShare = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A part of the file: frozen, strict, no unknown keys."""

    # Tuples are lax one by one, since YAML has only lists.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def problems(self) -> Iterator[tuple[str, Any, str]]:
        """Yields the broken rules between the values of this part: dotted key, value and what is wrong."""
        yield from ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        found = [
            InitErrorDetails(
                type=PydanticCustomError("rule", "{reason}", {"reason": reason}), loc=tuple(key.split(".")), input=value
            )
            for key, value, reason in self.problems()
        ]
        if found:
            raise ValidationError.from_exception_data(type(self).__name__, found)
        return self


def overrides(replaced: type[Section], *keys: str) -> Any:
    """Returns a section with these keys of another, or all, of the same types, where each may be left out or null."""
    optional: dict[str, Any] = {}
    for key in keys or replaced.model_fields:
        field = replaced.model_fields[key]
        kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        optional[key] = (kind | None, None)
    return create_model(f"{replaced.__name__}Overrides", __base__=Section, **optional)
