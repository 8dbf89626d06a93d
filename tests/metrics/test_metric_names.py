from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.selectors import Selector

GOLDEN = """\
accuracy.top1 fraction higher @
accuracy.nll nat lower @
accuracy.nll_scaled nat lower @
accuracy.brier ratio lower @
calibration.ece fraction lower @
calibration.ece_equal_mass fraction lower @
calibration.ece_scaled fraction lower @
calibration.temperature ratio none
fidelity.agreement fraction higher @
robustness.mean_error fraction lower
robustness.mce ratio lower
cost.parameters count lower
cost.nonzero count lower
cost.macs count lower
cost.bytes bytes lower
cost.bytes_zip bytes lower
cost.bytes_dense bytes lower
cost.bytes_packed bytes lower
cost.compression_ratio ratio higher
cost.compression_ratio_zip ratio higher
cost.compression_ratio_packed ratio higher
cost.parameters_ratio ratio lower
cost.macs_ratio ratio lower
cost.latency_median seconds lower
cost.latency_p95 seconds lower
cost.latency_ratio ratio lower
cost.memory_peak bytes lower"""


def test_names_units_and_directions_are_a_promise():
    lines = [
        f"{row.name} {row.unit} {row.better.value}{' @' if row.per_condition else ''}"
        for row in METRIC_NAMES.values()
    ]
    assert "\n".join(lines) == GOLDEN


def test_every_row_stands_under_its_own_name_with_one_line():
    for name, row in METRIC_NAMES.items():
        assert row.name == name
        assert row.summary
        assert "\n" not in row.summary
        assert Selector.parse(name).metric == name


def test_registered_metrics_agree_with_the_table():
    for name in METRICS.builtin:
        cls = METRICS.get(name)
        row = METRIC_NAMES[name]
        assert (cls.name, cls.unit, cls.better) == (name, row.unit, row.better)
        assert row.per_condition
        assert cls.version >= 1
