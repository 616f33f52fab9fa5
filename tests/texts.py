"""Texts that tokenizers find hard: sentences in many languages, emoji, code, numbers and bytes that are no language."""

import random
import unicodedata
from functools import cache

LANGUAGES = {
    "English": "The old bridge was closed in winter, so we walked 12 miles around the lake. Don't you think it's odd?",
    "German": "Die größte Straßenbahn fährt über Nacht zurück; Bücher, Äpfel und Süßigkeiten gibt's für 3,50 €.",
    "French": "L'été dernier, Noël semblait loin ; « où êtes-vous ? » demanda-t-elle à l'hôtel près de la forêt.",
    "Spanish": "¿Dónde está la niña? ¡Mañana volverá el pingüino! El camión costó 1.250,75 pesos según él.",
    "Portuguese": "Não há pão à venda amanhã; as crianças irão à praça com três irmãos e um avô muito cortês.",
    "Italian": "Perché la città è così lontana? Più tardi berremo un caffè lì, dov'è già pronta la cioccolata.",
    "Polish": "Zażółć gęślą jaźń, powiedział żółw; w źródle łąki rosną świeże kwiaty, a ćma leci do światła.",
    "Czech": "Příliš žluťoučký kůň úpěl ďábelské ódy, když šel přes řeku; tři sta třicet tři stříbrných křepelek.",
    "Finnish": "Hyvää yötä, äiti! Pöydällä on kahvipöytäliina, ja järvessä uiskentelee kymmenen hylkeenpoikasta.",
    "Turkish": "İstanbul'da ılık bir gün: çocuklar ağacın altında şarkı söylüyor, öğretmen üzümü paylaştırıyor.",
    "Vietnamese": "Buổi sáng trời mưa, chúng tôi uống cà phê sữa đá ở góc phố; giá chỉ 25.000 đồng một ly.",
    "Swahili": "Watoto wanacheza mpira karibu na nyumba ya bibi, na ng'ombe wanakula nyasi mbichi shambani.",
    "Russian": "Съешь ещё этих мягких булок, сказал он; в 1998 году объявление висело у подъезда.",
    "Ukrainian": "Щиро дякую за їжу! Ґава сіла біля п'ятої хати, а їжак пішов у ліс шукати гриби.",
    "Greek": "Πού είναι το παλιό σχολείο; Η γάτα κοιμάται στον ήλιο, κι εγώ γράφω ένα μικρό γράμμα.",
    "Hebrew": "שלום, איפה הספרייה? הילדים קראו שני ספרים ישנים בגן, ואחר כך הלכו הביתה בגשם.",
    "Arabic": "أين تقع المكتبة القديمة؟ كَتَبَ الطالِبُ رسالةً طويلة، ثم ذهب إلى السوق واشترى ٣ كتب.",
    "Persian": "می‌خواهم کتاب‌های تازه را بخوانم؛ هوا امروز خوب است و پرنده‌ها در باغ ۱۲ لانه ساخته‌اند.",
    "Hindi": "बच्चे बगीचे में खेल रहे हैं और दादी कहानी सुनाती हैं। क्या आपने १२ पुस्तकें पढ़ी थीं?",
    "Bengali": "নদীর ধারে ছোট গ্রাম, সেখানে মেলা বসে। আমার বোন প্রতিদিন সকালে গান শেখে।",
    "Tamil": "மழை பெய்தபோது குழந்தைகள் வீட்டுக்குள் ஓடினார்கள்; பாட்டி சூடான தேநீர் கொடுத்தாள்.",
    "Thai": "เมื่อวานนี้ฝนตกหนักมาก เราจึงนั่งอ่านหนังสือที่บ้าน แล้วทำก๋วยเตี๋ยวกินกันสามคน",
    "Chinese": "昨天下了一场大雨，孩子们在屋里读书。老师问：“你们想去图书馆吗？”票价是３５元，約合五美元。",
    "Japanese": "きのうは雨が降ったので、図書館でゆっくり本を読みました。コーヒーは３００円です。がっこうへ行く？",
    "Korean": "어제 비가 많이 와서 집에서 책을 읽었습니다. 할머니께서 떡볶이 2인분을 만들어 주셨어요!",
    "Georgian": "გუშინ ძლიერი წვიმა იყო, ამიტომ სახლში დავრჩით და ბებიას ზღაპრებს ვუსმენდით.",
}

_EMOJI = "👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 👨🏿‍🚀 ❤️‍🔥 🇪🇺🇯🇵 1️⃣ #️⃣ 😀😃😄 🤷🏻‍♀️ ☺️ 🏴󠁧󠁢󠁳󠁣󠁴󠁿 ok👌🏾ok"
_CODE = (
    "def f(x: int) -> str:\r\n\tif x >= 0x1F:\r\n\t\treturn f'{x!r:>10}'  # odd\r\n\r\n\r\n"
    "for (int i = 0; i < n; ++i) {\n        a[i] += b[i] << 2;\n    }\n\n\n\n    <s> </s> <|endoftext|> [INST]\n"
    "\t\t\tSELECT * FROM t WHERE a='it''s' AND b<>1e-9;   \n \n  \n   x_yZ.HTTPServer2Go()\\n \r \r\r\n"
)
_NUMBERS = (
    "0 00 007 12345678901234567890 3.14159 1,000,000.00 1e-10 0xDEADBEEF ½ Ⅷ ٣٤٥ ४५६ 2026-11-21T09:59:59Z +1 (555)"
)
_SPACES = "a  b   c    d\u00a0e\u2003f\u3000g\u200bh\tj \t k\n \n\n  " + " " * 45 + "end" + "\n" * 30 + "-" * 77


@cache
def hard_texts() -> dict[str, str]:
    """Name -> text, a few kilobytes each, the same at every call."""
    shuffle = random.Random(0)
    texts = {name: _long(sentences, shuffle) for name, sentences in LANGUAGES.items()}
    made = {"emoji": _long(_EMOJI, shuffle), "code": _CODE * 8, "numbers": _long(_NUMBERS, shuffle), "spaces": _SPACES}
    code_points = _code_points(shuffle)
    return (
        texts
        | made
        | {
            "bytes": _random_bytes(shuffle),
            "code points": code_points,
            "code points in NFC": unicodedata.normalize("NFC", code_points),
        }
    )


def decomposed(text: str) -> str:
    """The text in NFD, which a tokenizer with NFC spells in other bytes."""
    return unicodedata.normalize("NFD", text)


def _long(text: str, shuffle: random.Random) -> str:
    """The text, and then its words in many orders."""
    words = text.split(" ")
    return " ".join([text, *(word for _ in range(20) for word in shuffle.sample(words, len(words)))])


def _random_bytes(shuffle: random.Random) -> str:
    return shuffle.randbytes(3000).decode("latin-1")


def _code_points(shuffle: random.Random) -> str:
    """From everywhere: NUL, private use, combining marks, unassigned; no surrogates, and no `▁`, which is a space to
    SentencePiece."""
    blocks = [(0, 0x80), (0x80, 0x800), (0x300, 0x370), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    found = (chr(shuffle.randrange(*shuffle.choice(blocks))) for _ in range(2000))
    return "\0" + "".join(character for character in found if character != "▁")
