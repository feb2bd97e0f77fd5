"""What `forecast.json` may hold: the form of each part, and how their sizes fit together."""

from typing import Any, Final

from thalweg.storage.forms import choice, many, number, perhaps, record, text, truth, whole
from thalweg.tasks.forecast.autoregression.form import JOINT, OWN, SHARED
from thalweg.tasks.forecast.rows.calendar import BUSINESS, FIRST_BUSINESS, FIXED, MONTH, NUMBER
from thalweg.tasks.reading.numeric import LARGEST

MOST_ROWS: Final = 2**20  # of a season, and of the past that a forecast sees

_values, _names = many(number(-LARGEST, LARGEST)), many(text())
_scaling = record(shift=_values, scale=_values)
_form = record(
    log=truth(), difference=whole(0, 1), seasonal=whole(0, 1), season=whole(1, MOST_ROWS),
    lags=many(whole(1, MOST_ROWS)), drift=truth(), equations=choice(JOINT, OWN, SHARED),
)  # fmt: skip
_linear = record(
    scaled=record(form=_form, mean=_values, spread=many(number(1e-300, LARGEST))),
    l2=number(0.0), radii=many(many(perhaps(number(0.0)))), told=text(),
)  # fmt: skip
_step = record(
    {"day": whole(FIRST_BUSINESS, 31)}, kind=choice(MONTH, BUSINESS, FIXED, NUMBER), size=number(1e-300, LARGEST)
)
_file = record(
    {
        "linear": _linear,
        "lags": whole(1, MOST_ROWS),
        "scaling": _scaling,
        "layout": record(
            columns=_names, time=_names, id=_names, notation=text(), day_first=perhaps(truth()), gaps=text()
        ),
        "ids": perhaps(_names),
        "step": perhaps(_step),
    },
    columns=many(text(), least=1),
    time=perhaps(text()),
    reference=record(
        season=whole(1, MOST_ROWS), found=text(), steps=whole(1, MOST_ROWS), scale=many(number(0.0, LARGEST)),
        terms=many(many(number(-LARGEST, LARGEST), least=1)),
    ),
)  # fmt: skip


def forecast_file(value: Any, where: str) -> dict[str, Any]:
    """The form of the file, whose parts are about the same number of series."""
    saved: dict[str, Any] = _file(value, where)
    width = len(saved["columns"])
    sizes = {"reference.scale": saved["reference"]["scale"], "reference.terms": saved["reference"]["terms"]}
    if "linear" in saved:
        scaled = saved["linear"]["scaled"]
        sizes |= {"linear.scaled.mean": scaled["mean"], "linear.scaled.spread": scaled["spread"]}
        sizes |= {f"linear.radii[{place}]": row for place, row in enumerate(saved["linear"]["radii"])}
        if sorted(set(scaled["form"]["lags"])) != scaled["form"]["lags"]:
            raise ValueError("expected ascending lags")
    elif not {"lags", "scaling"} <= saved.keys():
        raise ValueError("expected 'lags' and 'scaling'")
    elif not saved.get("ids"):
        sizes |= {f"scaling.{name}": saved["scaling"][name] for name in ("shift", "scale")}
    for name, values in sizes.items():
        if len(values) != width:
            raise ValueError(f"expected {width} entries at {name}, got {len(values)}")
    layout, ids = saved.get("layout"), saved.get("ids")
    own = len(layout["columns"]) if layout else width
    if own * (1 if ids is None else len(ids)) != width or (ids is not None and (layout is None or not ids)):
        raise ValueError("expected as many columns as its series have")
    return saved
