"""The names of months in fourteen languages and of weekdays in seven, as they stand in columns of dates."""

import unicodedata
from typing import Final

# English, German, French, Spanish, Italian, Portuguese and Dutch, without accents; a name may be cut to three letters.
_MONTHS: Final = (
    "january januar janner jan janvier janv enero ene gennaio gen janeiro januari",
    "february februar feber feb fevrier fevr fev febrero febbraio fevereiro februari",
    "march marz maerz mrz mar mars marzo marco maart mrt",
    "april apr avril avr abril abr aprile",
    "may mai mayo maggio mag maio mei",
    "june juni jun juin junio giugno giu junho",
    "july juli jul juillet juil julio luglio lug julho",
    "august aug aout aou agosto ago agustus augustus",
    "september sept sep septembre septiembre setiembre set settembre setembro",
    "october oktober okt oct octobre octubre ottobre ott outubro out",
    "november nov novembre noviembre novembro",
    "december dezember dez dec decembre diciembre dic dicembre dezembro",
)
# Polish, Czech, Swedish, Danish, Norwegian, Turkish and Russian, in the forms beside a day, too.
_MORE_MONTHS: Final = (
    "styczen stycznia sty leden ledna ocak январь января янв",
    "luty lutego lut unor unora februari subat февраль февраля фев",
    "marzec marca brezen brezna mars marts mart март марта мар",
    "kwiecien kwietnia kwi duben dubna nisan апрель апреля апр",
    "maj maja kveten kvetna mayıs маи мая",
    "czerwiec czerwca cze cerven cervna haziran июнь июня июн",
    "lipiec lipca lip cervenec cervence temmuz июль июля июл",
    "sierpien sierpnia sie srpen srpna augusti agustos август августа авг",
    "wrzesien wrzesnia wrz zari eylul сентябрь сентября сен сент",
    "pazdziernik pazdziernika paz rijen rijna ekim октябрь октября окт",
    "listopad listopada lis kasım ноябрь ноября ноя нояб",
    "grudzien grudnia gru prosinec prosince desember des aralık декабрь декабря дек",
)
MONTHS: Final = {
    name: number
    for table in (_MONTHS, _MORE_MONTHS)
    for number, names in enumerate(table, start=1)
    for name in names.split()
}
_WEEKDAYS: Final = (
    "monday mon tuesday tue tues wednesday wed thursday thu thur thurs friday fri saturday sat sunday sun "
    "montag mo dienstag di mittwoch mi donnerstag do freitag fr samstag sonnabend sa sonntag so "
    "lundi lun mardi mar mercredi mer jeudi jeu vendredi ven samedi sam dimanche dim "
    "lunes martes mie miercoles jue jueves vie viernes sab sabado dom domingo "
    "lunedi martedi mercoledi gio giovedi venerdi sabato domenica "
    "segunda terca quarta quinta sexta feira seg ter qua qui sex "
    "maandag ma dinsdag woensdag wo donderdag vrijdag vr zaterdag za zondag zo"
)
WEEKDAYS: Final = frozenset(_WEEKDAYS.split())


def plain_letters(text: str) -> str:
    """Return a text in lower case without accents.

    Example:
        >>> plain_letters("Février"), plain_letters("MÄRZ")
        ('fevrier', 'marz')
    """
    text = text.casefold()
    if text.isascii():
        return text
    plain = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return unicodedata.normalize("NFC", plain)  # the signs of Korean are whole again
