"""Only the page's own scripts may run, and data cannot leave the element they stand in."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re

import pytest

from shrinkproof.report import scripts


def hash_of(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_policy_names_exactly_both_scripts():
    packed, stated = scripts.bundle()
    bundle = gzip.decompress(base64.b64decode(packed)).decode()
    assert hash_of(bundle) == stated
    policy = scripts.policy(draws=True)
    allowed = re.findall("'(sha256-[^']+)'", policy)
    assert allowed == [hash_of(scripts.script()), stated]
    assert "default-src 'none'" in policy
    script_part = policy.split("script-src")[1].split(";")[0]
    assert "unsafe" not in script_part
    assert stated not in scripts.policy(draws=False)


def test_the_bundle_travels_in_less_than_half_a_megabyte():
    assert len(scripts.bundle()[0]) < 500_000


def test_scripts_can_stand_in_a_page():
    for text in (scripts.script(), gzip.decompress(base64.b64decode(scripts.bundle()[0])).decode()):
        assert "</script" not in text.lower()
        assert "<!--" not in text


def test_the_own_script_never_writes_markup_or_compiles_strings():
    for forbidden in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert forbidden not in scripts.script()
    assert not re.search(r"fetch\(|XMLHttpRequest|WebSocket|import\(", scripts.script())


@pytest.mark.parametrize("text", ["</script><script>", "<!--", "a&b", "\u2028", '"\\', "é\u2013"])
def test_embedded_data_is_the_same_data_and_cannot_end_its_element(text):
    embedded = scripts.embedded({"text": text})
    assert json.loads(embedded) == {"text": text}
    assert not set("<>&\u2028\u2029") & set(embedded)


def test_numbers_that_are_none_cannot_be_embedded():
    with pytest.raises(ValueError, match="not JSON compliant"):
        scripts.embedded({"value": float("nan")})
