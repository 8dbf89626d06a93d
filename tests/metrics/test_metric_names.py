from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import METRIC_NAMES, PREFIXES, bare_name, known_metric
from shrinkproof.metrics.spelling import metric_of
from shrinkproof.protocols import Better
from shrinkproof.selectors import Selector

GOLDEN = """\
accuracy.top1 fraction higher @
accuracy.recall fraction higher @
accuracy.worst_class fraction higher @
accuracy.nll nat lower @
accuracy.brier ratio lower @
accuracy.brier_top ratio lower @
calibration.ece fraction lower @
calibration.ece_equal_mass fraction lower @
calibration.ece_l2 fraction lower @
calibration.ece_max fraction lower @
calibration.ece_debiased fraction lower @
calibration.ece_sweep fraction lower @
calibration.ace fraction lower @
calibration.classwise_ece fraction lower @
calibration.smooth_ece fraction lower @
calibration.ks fraction lower @
calibration.confidence_gap fraction none @
calibration.overconfidence fraction lower @
calibration.underconfidence fraction lower @
calibration.murphy_reliability ratio lower @
calibration.murphy_resolution ratio higher @
calibration.murphy_uncertainty ratio none @
calibration.murphy_within ratio none @
calibration.corp_miscalibration ratio lower @
calibration.corp_discrimination ratio higher @
calibration.corp_uncertainty ratio none @
calibration.temperature ratio none
selective.auroc fraction higher @
selective.aupr_error fraction higher @
selective.aupr_success fraction higher @
selective.fpr95 fraction lower @
selective.aurc fraction lower @
selective.eaurc fraction lower @
selective.augrc fraction lower @
selective.risk_at_coverage fraction lower @
selective.coverage_at_risk fraction higher @
fidelity.agreement fraction higher @
fidelity.float32_agreement fraction higher @
fidelity.float32_difference ratio lower @
flips.churn fraction none @
flips.negative fraction lower @
flips.positive fraction higher @
flips.churn_from_control fraction none @
flips.negative_from_control fraction lower @
flips.positive_from_control fraction higher @
flips.worst_class_change fraction higher @
robustness.error fraction lower @
robustness.ce ratio lower @
robustness.ce_difference fraction lower @
robustness.relative_ce ratio lower @
robustness.relative_ce_difference fraction lower @
robustness.mean_error fraction lower
robustness.mce ratio lower
robustness.relative_mce ratio lower
robustness.mce_alexnet ratio lower
robustness.worst_error fraction lower
robustness.retention ratio higher
robustness.relative fraction higher
robustness.effective fraction higher
saliency.hcc ratio higher @
saliency.hcc_spread ratio none @
saliency.hcc_common ratio higher @
saliency.hcc_zero ratio higher @
saliency.undefined fraction none @
saliency.unmatched fraction lower @
saliency.spearman ratio higher @
saliency.cosine ratio higher @
saliency.ssim ratio higher @
saliency.topk fraction higher @
detection.ap fraction higher @
detection.ap50 fraction higher @
detection.ap75 fraction higher @
detection.ap_small fraction higher @
detection.ap_medium fraction higher @
detection.ap_large fraction higher @
detection.ar1 fraction higher @
detection.ar10 fraction higher @
detection.ar100 fraction higher @
detection.ar_small fraction higher @
detection.ar_medium fraction higher @
detection.ar_large fraction higher @
detection.d_ece fraction lower @
detection.laece fraction lower @
detection.laace fraction lower @
robustness.mpc fraction higher @
robustness.rpc ratio higher @
robustness.mpc_of_baseline ratio higher @
boxes.threshold fraction none
boxes.miss_rate fraction lower @
boxes.false_per_image ratio lower @
boxes.lost fraction lower @
boxes.new ratio none @
boxes.flipped fraction lower @
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


def test_settings_stay_in_a_known_name():
    found = known_metric("calibration.ece[bins=10]")
    assert found.name == "calibration.ece[bins=10]"
    assert found.unit == "fraction"
    assert bare_name(found.name) == metric_of(found.name).name == "calibration.ece"


def test_prefixes_may_stand_before_each_other():
    name = "across_repeats.change.scaled.calibration.ece[bins=10]"
    found = known_metric(name)
    assert (found.name, found.unit, found.better) == (name, "fraction", Better.LOWER)
    assert bare_name(name) == "calibration.ece"
    assert known_metric("change.no.such") is None


def test_prefixes_say_what_they_keep():
    for prefix in PREFIXES:
        found = known_metric(f"{prefix.text}accuracy.nll")
        assert found.unit == ("probability" if prefix.keeps == "none" else "nat")
        assert found.better == (Better.LOWER if prefix.keeps == "both" else Better.NONE)
        assert found.summary.startswith(prefix.summary)
