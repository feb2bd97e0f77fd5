"""The classifier and the regressor in scikit-learn's own tools, and X and y in all their forms."""

import copy
import inspect
import pickle
import sys
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from thalweg.sklearn import Classifier, Regressor
from thalweg.training.recipe.options import OPTIONS

WORDS = {"good": 4.5, "fine": 4.0, "nice": 5.0, "bad": 1.0, "poor": 2.0, "ugly": 1.5}
TEXTS = [f"{word} {noun}" for noun in ("film", "cast", "plot", "sound", "end", "start") for word in WORDS]
NUMBERS = [WORDS[text.split()[0]] for text in TEXTS]
IS_GOOD = np.array(NUMBERS) > 3
QUICK = {"model": "linear", "l2": 0.01}
FOLDS = KFold(3, shuffle=True, random_state=0)


def test_two_lines_are_enough():
    assert Classifier().fit(TEXTS, np.where(IS_GOOD, "pos", "neg")).predict(["a good show"]) == ["pos"]


@pytest.mark.parametrize(
    "labels",
    [("neg", "pos"), (0, 1), (-1, 7), (False, True), (1.0, 2.0), ("NA", "a;b"), ("2024-05-01", "May"), (2019, 2020)],
    ids=str,
)
def test_labels_of_any_kind_come_back_as_they_were(labels):
    y = np.array(labels)[IS_GOOD.astype(int)]
    model = Classifier(**QUICK).fit(TEXTS, y)
    assert model.classes_.tolist() == list(labels)
    answers = model.predict(["bad thing", "", "good thing"])
    assert answers.dtype == y.dtype
    assert answers[[0, 2]].tolist() == list(labels)
    chances = model.predict_proba(TEXTS)
    np.testing.assert_allclose(chances.sum(1), 1)
    np.testing.assert_array_equal(model.classes_[chances.argmax(1)], model.predict(TEXTS))
    assert model.score(TEXTS, y) == 1


SEVERAL = np.stack([IS_GOOD, ["film" in text or "plot" in text for text in TEXTS], np.zeros(len(TEXTS))], 1).astype(int)


@pytest.mark.parametrize("shape", [list, np.asarray], ids=["lists", "matrix"])
def test_an_indicator_matrix_gives_a_matrix_and_a_label_that_never_comes_is_never_given(shape):
    model = Classifier(**QUICK).fit(TEXTS, shape(SEVERAL.tolist()))
    np.testing.assert_array_equal(model.predict(TEXTS), SEVERAL)
    assert model.predict_proba(["good film"]).shape == (1, 3)
    assert model.predict_proba(["good film"])[0, 2] == 0
    assert model.score(TEXTS, SEVERAL) == 1


def test_lists_of_labels_give_lists_of_labels():
    names = np.array(["good", "short"])
    y = [names[row[:2].astype(bool)].tolist() for row in SEVERAL]
    for given in (y, list(map(set, y)), pd.Series(y)):
        model = Classifier(**QUICK).fit(TEXTS, given)
        assert model.predict(TEXTS) == y
        assert model.score(TEXTS, given) == 1


def test_labels_of_which_no_text_has_two_exclude_one_another():
    y = [["good"] if good else [] for good in IS_GOOD]
    model = Classifier(**QUICK).fit(TEXTS, y)
    assert model.predict(["good one", "bad one"]) == [["good"], []]


X_FORMS = {
    "tuple": tuple(TEXTS),
    "array": np.array(TEXTS),
    "objects": np.array(TEXTS, dtype=object),
    "column": np.array(TEXTS)[:, None],
    "series": pd.Series(TEXTS, index=range(7, 7 + len(TEXTS))),
    "frame": pd.DataFrame({"text": TEXTS}),
}


def test_texts_in_any_container_are_the_same_texts():
    expected = Classifier(**QUICK).fit(TEXTS, IS_GOOD).predict_proba(TEXTS)
    for name, X in X_FORMS.items():
        found = Classifier(**QUICK).fit(X, pd.Series(IS_GOOD)).predict_proba(X)
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_answers_do_not_depend_on_what_is_asked_beside_them():
    model = Classifier(**QUICK).fit(TEXTS, IS_GOOD)
    many = [*TEXTS] * 10  # more than one batch
    np.testing.assert_allclose(model.predict_proba(many)[::-1], model.predict_proba(many[::-1]), atol=1e-12)
    np.testing.assert_allclose(model.predict_proba(many)[:1], model.predict_proba(many[:1]), atol=1e-12)


def test_regression_of_texts_and_of_pairs():
    model = Regressor().fit(TEXTS, NUMBERS)
    assert model.score(TEXTS, NUMBERS) > 0.9
    pairs = np.array([[text, other] for text, other in zip(TEXTS, TEXTS[::2] + TEXTS[1::2], strict=True)])
    same = [float(len(set(a.split()) & set(b.split()))) for a, b in pairs]
    model = Regressor().fit(pairs, same)
    np.testing.assert_allclose(model.predict(pairs.tolist()), model.predict(pairs))
    with pytest.raises(ValueError, match="pair of texts"):
        model.predict(TEXTS)


def test_few_numbers_leave_different_ones_for_validation():
    assert Regressor().fit(["a", "b", "c", "d"], [1, 1, 2, 2]).predict(["a"]).shape == (1,)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ("one text", [1], r"got a text; a single text is given as a list, too: \[text\]"),
        (None, [1], "got null"),
        ([], [], "there must be at least one"),
        (["a", None], [0, 1], "example 2 holds None"),
        (["a", 3], [0, 1], "example 2 holds 3"),
        (["a", float("nan")], [0, 1], "example 2 holds nan"),
        (np.eye(3), [0, 1, 1], "example 1 has 3 values"),
        (np.zeros((2, 2, 2)), [0, 1], r"shape \[2, 2, 2\]"),
        (np.array("a"), [0], r"give \[text\]"),
        ([["a"], ["b", "c"]], [0, 1], "example 2 has 2 values"),
        ({"a", "b"}, [0, 1], "got set, which has no order; give a list"),
        ({"a": 0, "b": 1}, [0, 1], "which has no order; give a list"),
        (["a", "b"], None, "requires y to be passed"),
        (["a", "b"], np.array([0.0, np.nan]), "got nan among them"),
        (["a", "b"], [0], "X has 2 examples, and y 1 target"),
        (["a", "b"], [0.5, 1.7], "Unknown label type: continuous"),
        (["a", "b"], 5, "Unknown label type: expected a label for each text"),
        (["a", "b"], ["x", None], "got None among them"),
        (["a", "b"], [[], []], "all lists are empty"),
        (["a", "b"], [["x"], [None]], "got None among them"),
        (["a", "b"], [["x"], [1]], "labels of one type, got int, str"),
        (["a", "b"], np.array(["x", 1], dtype=object), "labels of one type|Unknown label type"),
        (["a", "b"], ["x", "x"], "two classes or more; got 1 class, 'x'"),
    ],
)
def test_what_no_classifier_learns_is_refused_in_a_sentence(X, y, message):
    with pytest.raises(ValueError, match=message):
        Classifier().fit(X, y)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (["a", "b"], None, "requires y to be passed"),
        (["a", "b"], ["x", "y"], "a number for each text"),
        (["a", "b"], [1.0, float("inf")], "got inf for example 2"),
        (["a", "b"], [1, 10**400], "a number for each text"),
        (["a"], [1.0], "1 sample"),
        (["a", "b"], [3, 3], "got 3 for all 2"),
        ([["a", "b", "c"]], [3], "example 1 has 3 values"),
    ],
)
def test_what_no_regressor_learns_is_refused_in_a_sentence(X, y, message):
    with pytest.raises(ValueError, match=message):
        Regressor().fit(X, y)


def test_before_fit_and_with_an_unknown_option():
    with pytest.raises(NotFittedError):
        Classifier().predict(["a"])
    with pytest.raises(NotFittedError):
        Regressor().predict(["a"])
    with pytest.raises(TypeError, match="'learning_rate'"):
        Classifier(learning_rate=1.0)
    with pytest.raises(TypeError, match="'threshold'"):
        Regressor(threshold="auto")
    with pytest.raises(ValueError, match="no model 'cnn'"):
        Classifier(model="cnn").fit(TEXTS, IS_GOOD)


def test_parameters_are_options_and_are_stored_as_they_were_given():
    names = set(inspect.signature(Classifier).parameters) - {"folder", "verbose"}
    assert names < OPTIONS.keys()
    assert {"model", "optimizer", "lr", "epochs", "time", "seed", "l2", "threshold"} < names
    rates = [0.1]
    model = Classifier(lr=rates, seed=3)
    assert model.lr is rates
    assert clone(model).get_params()["seed"] == 3
    assert model.set_params(model="gru").get_params()["model"] == "gru"
    assert repr(Classifier(model="gru")) == "Classifier(model='gru')"


def test_searches_pipelines_and_cross_validation():
    pipe = make_pipeline(FunctionTransformer(lambda texts: [text.upper() for text in texts]), Classifier(**QUICK))
    assert cross_val_score(pipe, TEXTS, IS_GOOD, cv=FOLDS).mean() > 0.9
    with joblib.parallel_backend("threading"):
        search = GridSearchCV(Classifier(model="linear"), {"l2": [10.0, 0.01]}, cv=FOLDS, n_jobs=2).fit(TEXTS, IS_GOOD)
    assert search.best_score_ > 0.9
    assert cross_val_score(Regressor(), TEXTS, NUMBERS, cv=FOLDS).mean() > 0.5


@pytest.mark.slow
def test_a_search_in_two_processes():
    search = GridSearchCV(Classifier(model="linear"), {"l2": [10.0, 0.01]}, cv=FOLDS, n_jobs=2).fit(TEXTS, IS_GOOD)
    assert search.best_score_ > 0.9


def test_a_copy_takes_the_run_along_and_a_folder_that_was_not_named_goes_with_its_classifier(tmp_path):
    model = Classifier(**QUICK).fit(TEXTS, IS_GOOD)
    folder, expected = model.run_.folder, model.predict_proba(TEXTS)
    sent, copied = pickle.dumps(model), copy.deepcopy(model)
    joblib.dump(model, tmp_path / "model.joblib")
    del model
    assert not folder.exists()
    for other in (pickle.loads(sent), copied, joblib.load(tmp_path / "model.joblib")):
        np.testing.assert_array_equal(other.predict_proba(TEXTS), expected)
        assert other.run_.folder != folder
    assert not hasattr(pickle.loads(pickle.dumps(Classifier())), "run_")


def test_a_pickle_writes_files_nowhere_else(tmp_path):
    state = Classifier(**QUICK).fit(TEXTS, IS_GOOD).__getstate__()
    state["_files"] = {"../outside": b""}
    with pytest.raises(ValueError, match=r"'\.\./outside'"):
        Classifier().__setstate__(state)


def test_a_named_folder_stays_and_every_fit_adds_a_run(tmp_path, capsys):
    model = Classifier(folder=tmp_path, **QUICK).fit(TEXTS, IS_GOOD).fit(TEXTS, IS_GOOD)
    del model
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classifier", "classifier-2"]
    assert capsys.readouterr() == ("", "")
    Classifier(verbose=True, **QUICK).fit(TEXTS, IS_GOOD)
    assert "Text column 'text'" in capsys.readouterr().out


def test_without_scikit_learn_there_is_a_sentence(monkeypatch):
    monkeypatch.delitem(sys.modules, "thalweg.sklearn.estimators")
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ImportError, match=r"pip install 'thalweg\[sklearn\]'"):
        __import__("thalweg.sklearn.estimators")


# Of scikit-learn's own checks those without data; the others, which give numbers, are those of the test below.
CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_estimators_unfitted",
)


@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_checks_of_scikit_learn_that_need_no_data(kind):
    for name in CHECKS[:-1]:
        getattr(estimator_checks, name)(kind.__name__, kind())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", estimator_checks.SkipTestWarning)  # it says that X must be texts
        estimator_checks.check_estimator(kind())


class NumbersAsTexts:
    """Put before an estimator, makes words of the numbers that scikit-learn's checks give."""

    def fit(self, X, y):
        return super().fit(self._texts(validate_data(self, X)), y)

    def predict(self, X):
        check_is_fitted(self)
        return super().predict(self._texts(validate_data(self, X, reset=False)))

    def _texts(self, X):
        return [" ".join(f"c{place}v{float(value):.1f}" for place, value in enumerate(row)) for row in X]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags


class ClassifierOfNumbers(NumbersAsTexts, Classifier):
    def predict_proba(self, X):
        check_is_fitted(self)
        return super().predict_proba(self._texts(validate_data(self, X, reset=False)))


class RegressorOfNumbers(NumbersAsTexts, Regressor):
    pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # numpy's, of infinite numbers
@pytest.mark.parametrize("estimator", [ClassifierOfNumbers(**QUICK), RegressorOfNumbers()], ids=["classes", "numbers"])
def test_all_checks_of_scikit_learn_on_numbers_as_texts(estimator):
    found = estimator_checks.check_estimator(estimator, on_fail=None, on_skip=None)
    assert len(found) > 50
    assert not [(one["check_name"], one["exception"]) for one in found if one["status"] == "failed"]
