"""The 2021 cleaning: every step on German and English, what must stay untouched, and any text at all."""

import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photodesk.errors import DataError, MissingExtra
from photodesk.text import cleaning, spelling
from photodesk.types import Article

LANGUAGES = st.sampled_from(["en", "de", "fr", "unknown", ""])


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("He's late and they're sorry", "en", "He is late and they are sorry"),
        ('It isn’t over, "don\'t" panic', "en", 'It is not over, "do not" panic'),
        ("We can't, won't, I'd, let's", "en", "We can not, will not, I would, let us"),
        ("'Tis the season", "en", "It is the season"),
        ("Germany's goal, the dog's tail, the 1990's", "en", "Germany's goal, the dog's tail, the 1990's"),
        ("O'Brien and rock'n'roll at five o'clock", "en", "O'Brien and rock'n'roll at five o'clock"),
        ("Gibt's Ärger? Wie geht’s auf'm Platz", "de", "Gibt es Ärger? Wie geht es auf dem Platz"),
        ("Willi's Imbiss, He's", "de", "Willi's Imbiss, He's"),
        ("l'eau, he's", "fr", "l'eau, he's"),
    ],
)
def test_contractions(text, language, expected):
    assert cleaning.expand_contractions(text, language) == expected


def test_articles_go_from_english_only():
    assert cleaning.drop_articles("The ship, an old one, left a port") == "ship, old one, left port"
    assert cleaning.drop_articles("Schiff an der Elbe", "de") == "Schiff an der Elbe"


def test_lower_keeps_german_letters():
    assert cleaning.lower("GRÖSSE Straße Übung ÄPFEL") == "grösse straße übung äpfel"


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("#BlackLivesMatter: thepolice respond.", "en", "Black Lives Matter: the police respond."),
        ("#breakingnews #Covid19 #AfD #USWahl #iPhone", "en", "breaking news Covid 19 AfD US Wahl iPhone"),
        ("#hochwasserköln, #FridaysForFuture!", "de", "hochwasser köln, Fridays For Future!"),
        ("Hochwasserschutzkonzept dasauto", "de", "Hochwasserschutzkonzept dasauto"),
        ("WhatsApp McDonald's roadmap schadenfreude # #1", "en", "WhatsApp McDonald's roadmap schadenfreude # 1"),
        ("#EtwasNeues", "unknown", "Etwas Neues"),
    ],
)
def test_segmentation(text, language, expected):
    assert cleaning.segment(text, language) == expected


SLIPS = {
    "en": "recieve:receive goverment:government definately:definitely occured:occurred untill:until becuase:because "
    "hopsital:hospital "
    "begining:beginning thier:their beleive:believe minsiter:minister foward:forward enviroment:environment "
    "temperture:temperature teh:the",
    "de": "vieleicht:vielleicht gestorden:gestorben demosntriert:demonstriert zusamen:zusammen natürlch:natürlich "
    "geöfnet:geöffnet "
    "wesentlcih:wesentlich interesant:interessant geschosen:geschossen mitlerweile:mittlerweile nähmlich:nämlich",
}


@pytest.mark.parametrize("language", SLIPS)
def test_slips_are_put_right(language):
    for pair in SLIPS[language].split():
        wrong, right = pair.split(":")
        assert cleaning.correct_spelling(f"{wrong}, x", language) == f"{right}, x"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Mr Lascheet of Gelsenkirchn met Recieve Inc.", "en"),  # capitals: names
        ("covid19 x2f 3rd 12.5km @recieve.", "en"),  # digits, handles
        ("the weltschmerz of déjà vu and arbeit.", "en"),  # foreign words
        ("der shutdown, das update, laissez faire.", "de"),
        ("die wahlkampfkosten, flussabwärts, kriegszerstörte.", "de"),  # compounds
        ("a colour that apologises for its centre.", "en"),
    ],
)
def test_what_spelling_leaves_alone(text, language):
    assert cleaning.correct_spelling(text, language) == text


def test_the_whole_of_it():
    assert cleaning.clean("He's sure THE cat's tail isn't #BreakingNews, thepolice can't recieve it.") == (
        "he is sure cat's tail is not breaking news, police can not receive it."
    )
    assert cleaning.clean("Gibt's Ärger an der Elbe? Die GRÖSSE ist nähmlich #FridaysForFuture!", "de") == (
        "gibt es ärger an der elbe? die grösse ist nämlich fridays for future!"
    )
    assert cleaning.clean("Der He's a an thepolice", "unknown") == "der he's a an thepolice"


def test_remembered_words_change_nothing():
    """The composition on words that are remembered is the plain steps one after the other on the text."""
    text = "He's at thestation, isn't he? They recieve #BreakingNews from a Miller, the adress."
    plain = cleaning.correct_spelling(cleaning.expand_contractions(cleaning.segment(text)))
    assert cleaning.clean(text) == cleaning.lower(cleaning.drop_articles(plain))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(["He's", "#TheNews", "thepolice", "recieve", "a", "A", "an.", "it's", "#a", "can't", "Ünder"])
    ).map(" ".join),
    LANGUAGES,
)
def test_word_by_word_is_the_same_as_step_by_step(text, language):
    plain = text
    for step in cleaning.STEPS_2021 if language in spelling.LANGUAGES else (cleaning.lower,):
        plain = step(plain, language)
    assert cleaning.clean(text, language) == plain


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60), LANGUAGES)
def test_no_text_breaks_a_step(text, language):
    for step in (
        cleaning.expand_contractions,
        cleaning.drop_articles,
        cleaning.segment,
        cleaning.correct_spelling,
        cleaning.lower,
    ):
        once = step(text, language)
        if step is not cleaning.segment or "#" not in text:
            assert step(once, language) == once, step
    assert cleaning.clean(text, language).split() == cleaning.clean(" ".join(text.split()), language).split()


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("abcdefghilmnoprstuäöüß'#ABC1 "), max_size=40), LANGUAGES)
def test_no_german_or_english_looking_text_breaks_a_step(text, language):
    test_no_text_breaks_a_step.hypothesis.inner_test(text, language)


def test_segments_are_the_letters_that_were_there():
    @settings(max_examples=100, deadline=None)
    @given(
        st.lists(
            st.sampled_from(["police", "river", "flood", "minister", "school", "the", "of", "in", "goal"]),
            min_size=1,
            max_size=4,
        )
    )
    def check(parts):
        assert spelling.run_together("".join(parts), "en").replace(" ", "") == "".join(parts)
        assert spelling.hashtag("".join(parts), "en").replace(" ", "") == "".join(parts)

    check()


def test_articles_without_text_are_named_and_kept_or_left_out():
    some = [Article("1", "Flood"), Article("2", " ", text="rain", where="a.tsv:3"), Article("3", "")]
    kept, faults = cleaning.with_text(some, ["title"])
    assert [a.id for a in kept] == ["1", "2", "3"]
    assert [str(f) for f in faults] == [
        "a.tsv:3: no title: article '2' (kept)",
        "articles: no title: article '3' (kept)",
    ]
    kept, faults = cleaning.with_text(some, ["title", "text"], drop=True)
    assert [a.id for a in kept] == ["1", "2"]
    assert [f.fate for f in faults] == ["left out"]


def test_labels_keep_their_mapping():
    codes, mapping = cleaning.label(["Sport", "Köln", "Sport", ""])
    assert codes == (2, 1, 2, 0)
    assert dict(mapping) == {"": 0, "Köln": 1, "Sport": 2}


def test_without_the_word_lists_the_pip_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    spelling.words.cache_clear()
    with pytest.raises(MissingExtra, match=r'pip install "photodesk\[clean\]"'):
        cleaning.clean("somethingnew is here", "pt")


@pytest.fixture
def ekphrasis(tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("ekphrasis.classes.segmenter")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cleaning._tools.cache_clear()
    cleaning._ekphrasis.cache_clear()
    yield tmp_path / ".ekphrasis" / "stats" / "english"
    cleaning._tools.cache_clear()
    cleaning._ekphrasis.cache_clear()


def test_ekphrasis_without_its_counts_says_where_to_put_them(ekphrasis):
    with pytest.raises(DataError, match=r"counts_1grams.*clean=2021"):
        cleaning.clean_with_ekphrasis("The flood")


def test_ekphrasis_runs_on_its_counts_and_keeps_stdout_for_data(ekphrasis, capsys):
    ekphrasis.mkdir(parents=True)
    counts = {"the": 900, "police": 300, "is": 500, "he": 400, "receive": 80, "merkel": 1, "not": 200}
    (ekphrasis / "counts_1grams.txt").write_text("".join(f"{word}\t{count}\n" for word, count in counts.items()))
    (ekphrasis / "counts_2grams.txt").write_text("the\tpolice\t90\n")
    assert cleaning.clean_with_ekphrasis("He's #thepolice, the recieve 12") == "he is the police, receive 12"
    assert cleaning.clean_with_ekphrasis("Der Fluß", "de") == "der fluß"
    assert capsys.readouterr().out == ""
