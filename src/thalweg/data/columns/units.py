"""What may stand before and behind the numbers of a column: currencies, units, what a rating is out of."""

import re
import unicodedata
from typing import Final

MAX_WORDS: Final = 4
MAX_LENGTH: Final = 24
MAX_POINTS: Final = 100  # "out of" more is no rating


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Prices in these have two decimals at most, behind a point: a comma stands between their thousands.
POINT_CURRENCIES: Final = _words("$ £ ₹ ¥ Rs Rs. US$ USD GBP INR JPY")
_CURRENCIES: Final = _words(
    "USD EUR GBP JPY CHF CAD AUD NZD CNY RMB INR BRL RUB KRW SEK NOK DKK PLN CZK HUF RON BGN TRY ZAR MXN ARS CLP COP "
    "PEN ILS AED SAR EGP THB IDR MYR PHP SGD HKD TWD VND UAH NGN KES PKR BDT Rs Rs. Fr Fr. SFr SFr. kr kr. Kr Kr. zł "
    "Kč Ft lei R RM Rp S/ S/. US CA AU NZ HK MX"
)
# Times of day, ordinals and eras stand behind numbers, too.
_NO_UNITS: Final = _words("am pm a.m. p.m. a p uhr h o'clock st nd rd th º ª er e ème eme bc ad ce bce")
_NO_STARTS: Final = ("-", "/", ":", ",", ".", ";", "_", "#", "'")
_OUT_OF: Final = re.compile(r"(?:/|(?:out of|of|von|sur|de|su|di|van|av|z|из) )(?P<points>\d+)(?: [^\W\d]+)?")


def is_currency(text: str) -> bool:
    """Whether a text is nothing, or the sign or the code of a currency, such as "$", "R$" or "EUR".

    Example:
        >>> is_currency("US$"), is_currency("No.")
        (True, False)
    """
    words = text.replace("$", " ").replace("€", " ").split()
    return all(word in _CURRENCIES or all(unicodedata.category(one) == "Sc" for one in word) for word in words)


def is_unit(text: str) -> bool:
    """Whether a text may stand behind a number as its unit.

    Example:
        >>> is_unit("kg"), is_unit("out of 5 stars"), is_unit("pm")
        (True, True, False)
    """
    rating = _OUT_OF.fullmatch(text)
    if rating is not None:
        return 1 < int(rating["points"]) <= MAX_POINTS
    words = text.split()
    has_digits = any(one.isdecimal() for one in text.replace("m2", "").replace("m3", ""))
    if has_digits or not words or len(words) > MAX_WORDS or len(text) > MAX_LENGTH or text.startswith(_NO_STARTS):
        return False
    return not {text.lower(), words[0].lower()} & _NO_UNITS
