import pytest

from stable_params import (
    PARAMETERIZATIONS,
    Bounded,
    DownBounded,
    Exp,
    ExpLin,
    HardClamp,
    NaiveExp,
    SoftClamp,
    Softplus,
    UpBounded,
    Vanilla,
    parse_parameterization,
)

ALLOWED = "vanilla, naive_exp, exp, explin, upbounded<omega> (such as upbounded1), "
ALLOWED += "downbounded<alpha> (such as downbounded0.1), bounded<alpha>_<omega> (such as bounded0.1_256), "
ALLOWED += "softplus<beta> (such as softplus0.6931472), softclamp<limit>_<floor> (such as softclamp5_0.01), "
ALLOWED += "hardclamp<low>_<high> (such as hardclamp-15_10)"


@pytest.mark.parametrize(
    "flag, expected",
    [
        ("vanilla", Vanilla()),
        ("naive_exp", NaiveExp()),
        ("exp", Exp()),
        ("explin", ExpLin()),
        ("upbounded1", UpBounded(1)),
        ("upbounded0.5", UpBounded(0.5)),
        ("upbounded256", UpBounded(256)),
        ("upbounded.5", UpBounded(0.5)),
        ("downbounded1e-3", DownBounded(0.001)),
        ("bounded0.1_256", Bounded(0.1, 256)),
        ("bounded1e-3_1e+2", Bounded(0.001, 100)),
        ("softplus0.6931", Softplus(0.6931)),
        ("softclamp5_0.01", SoftClamp(5, 0.01)),
        ("softclamp5_0", SoftClamp(5, 0)),
        ("hardclamp-15_10", HardClamp(-15, 10)),
        ("hardclamp-1e1_-.5", HardClamp(-10, -0.5)),
    ],
)
def test_flag_gives_the_parameterization_it_spells(flag, expected):
    parsed = parse_parameterization(flag)
    assert type(parsed) is type(expected) and parsed == expected


@pytest.mark.parametrize("constant", [1, 0.1, 1 / 3, 1e-7, 1e22, 123456789.123, 5e-324, 1.7976931348623157e308])
def test_any_constant_survives_its_flag(constant):
    assert parse_parameterization(UpBounded(constant).flag) == UpBounded(constant)


def test_flags_are_spelt_as_users_type_them():
    flags = [UpBounded(1).flag, UpBounded(256.0).flag, Bounded(0.1, 1).flag, HardClamp(-15.0, 10).flag]
    assert flags == ["upbounded1", "upbounded256", "bounded0.1_1", "hardclamp-15_10"]


@pytest.mark.parametrize(
    "flag, reason, suggestion",
    [
        ("explim", "not a known form", "explin"),
        ("ExpLin", "not a known form", "explin"),
        ("UPBOUNDED1", "not a known form", "upbounded1"),
        ("naive-exp", "not a known form", "naive_exp"),
        ("exp1", "exp takes 0 constant(s), got 1", "exp"),
        ("upbounded", "upbounded takes 1 constant(s), got 0", "upbounded1"),
        ("upbounded1_2", "upbounded takes 1 constant(s), got 2", "upbounded1"),
        ("upboundedx", "not a known form", "upbounded1"),
        ("upbounded-1", "omega must be finite and above 0, got -1.0", "upbounded1"),
        ("upbounded--1", "not a known form", "upbounded1"),
        ("upbounded 1", "not a known form", "upbounded1"),
        ("upbounded1\n", "not a known form", "upbounded1"),
        ("upbounded\u0661", "not a known form", "upbounded1"),
        ("upboundedinf", "not a known form", "upbounded1"),
        ("upbounded0", "omega must be finite and above 0, got 0.0", "upbounded1"),
        ("upbounded1e999", "omega must be finite and above 0, got inf", "upbounded1"),
        ("downbouned0.1", "not a known form", "downbounded0.1"),
        ("bounded1", "bounded takes 2 constant(s), got 1", "bounded0.1_256"),
        ("bounded_1_2", "not a known form", "bounded0.1_256"),
        ("softplus-1", "beta must be finite and above 0, got -1.0", "softplus0.6931472"),
        ("softclamp-5_0.01", "limit must be finite and above 0, got -5.0", "softclamp5_0.01"),
        ("softclamp5", "softclamp takes 2 constant(s), got 1", "softclamp5_0.01"),
        ("softclamp5_-1", "floor must not be negative, got -1.0", "softclamp5_0.01"),
        ("hardclamp10_-15", "low must be below high, got low 10.0 and high -15.0", "hardclamp-15_10"),
        ("bounded2_1", "alpha must be below omega, got alpha 2.0 and omega 1.0", "bounded0.1_256"),
    ],
)
def test_bad_flag_names_itself_the_reason_the_forms_and_the_nearest(flag, reason, suggestion):
    with pytest.raises(ValueError) as caught:
        parse_parameterization(flag)
    expected = f"bad scale parameterization {flag!r}: {reason}; allowed: {ALLOWED}; did you mean {suggestion}?"
    assert str(caught.value) == expected


@pytest.mark.parametrize("flag", ["", "1", "qqqq"])
def test_a_flag_like_no_other_gets_no_suggestion(flag):
    with pytest.raises(ValueError) as caught:
        parse_parameterization(flag)
    assert str(caught.value) == f"bad scale parameterization {flag!r}: not a known form; allowed: {ALLOWED}"


@pytest.mark.parametrize("flag", [None, 1, Exp()])
def test_a_flag_that_is_not_a_string_is_refused(flag):
    with pytest.raises(TypeError, match="is a string"):
        parse_parameterization(flag)


def test_the_table_is_keyed_by_name():
    assert all(name == example.name for name, example in PARAMETERIZATIONS.items()) and len(PARAMETERIZATIONS) == 10
