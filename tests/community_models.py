"""What the best-known community models have beside their weights.

Most settings of tokenizers are as published; those of the Europeana model, of google's and the keys
of KoELECTRA's file are from memory, as are most fields of the configurations.
Depth, vocabulary and width are smaller in tests; the vocabularies are made from text of the
language with the same settings.
"""

from dataclasses import dataclass, field
from typing import Any

_BASE = {
    "attention_probs_dropout_prob": 0.1,
    "embedding_size": 768,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "type_vocab_size": 2,
}
ELECTRA_BASE = _BASE | {
    "architectures": ["ElectraForPreTraining"],
    "model_type": "electra",
    "summary_activation": "gelu",
    "summary_last_dropout": 0.1,
    "summary_type": "first",
    "summary_use_proj": True,
}
ELECTRA_SMALL = ELECTRA_BASE | {
    "embedding_size": 128,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_attention_heads": 4,
}
CONVBERT_BASE = _BASE | {
    "architectures": ["ConvBertModel"],
    "bos_token_id": 0,
    "conv_kernel_size": 9,
    "eos_token_id": 2,
    "head_ratio": 2,
    "model_type": "convbert",
    "num_groups": 1,
}
CONVBERT_MEDIUM_SMALL = CONVBERT_BASE | {
    "embedding_size": 128,
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "num_groups": 2,
}
CONVBERT_SMALL = CONVBERT_BASE | {
    "embedding_size": 128,
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_attention_heads": 4,
}
DBMDZ = {"do_lower_case": False, "max_len": 512, "init_inputs": [], "strip_accents": False}
NAMED = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


@dataclass(frozen=True)
class Published:
    """One model: language, configuration, ``tokenizer_config.json`` (None where it has none).

    ``lowercase``, ``accents`` and ``chinese`` are what the settings come to; ``fast`` says that a
    ``tokenizer.json`` lies beside ``vocab.txt``, ``spare`` how many rows have no token.
    """

    language: str
    config: dict[str, Any]
    tokenizer: dict[str, Any] | None
    lowercase: bool = False
    accents: bool = True
    chinese: bool = True
    fast: bool = False
    spare: int = 0
    files: dict[str, str] = field(default_factory=dict)


COMMUNITY = {
    "dbmdz/convbert-base-turkish-cased": Published("tr", CONVBERT_BASE, DBMDZ),
    "dbmdz/convbert-base-turkish-mc4-uncased": Published(
        "tr",
        CONVBERT_BASE | {"architectures": ["ConvBertForMaskedLM"]},
        DBMDZ | {"do_lower_case": True},
        lowercase=True,
    ),
    "dbmdz/convbert-base-german-europeana-cased": Published("de", CONVBERT_BASE, DBMDZ),
    "dbmdz/electra-base-turkish-cased-discriminator": Published("tr", ELECTRA_BASE, DBMDZ),
    "german-nlp-group/electra-base-german-uncased": Published(
        "de",
        ELECTRA_BASE,
        {
            "strip_accents": False,
            "special_tokens_map_file": None,
            "full_tokenizer_file": None,
            "max_len": 512,
        },
        lowercase=True,
    ),
    "deepset/gelectra-base": Published("de", ELECTRA_BASE, DBMDZ),
    "mrm8488/convbert-base-spanish": Published(
        "es",
        CONVBERT_BASE,
        {
            "do_lower_case": True,
            **NAMED,
            "tokenize_chinese_chars": True,
            "strip_accents": None,
            "special_tokens_map_file": None,
            "name_or_path": "mrm8488/electricidad-small-discriminator",
            "do_basic_tokenize": True,
            "never_split": None,
            "tokenizer_class": "ElectraTokenizer",
        },
        lowercase=True,
        accents=False,
    ),
    "mrm8488/electricidad-base-discriminator": Published(
        "es", ELECTRA_BASE, None, lowercase=True, accents=False
    ),
    "monologg/koelectra-base-v3-discriminator": Published(
        "ko", ELECTRA_BASE, {"do_lower_case": False, "model_max_length": 512}
    ),
    "monologg/koelectra-small-v3-discriminator": Published(
        "ko", ELECTRA_SMALL, {"do_lower_case": False, "model_max_length": 512}
    ),
    "dbmdz/electra-base-italian-xxl-cased-discriminator": Published(
        "it", ELECTRA_BASE, {"do_lower_case": False, "max_len": 512, "init_inputs": []}, spare=7
    ),
    "NlpHUST/electra-base-vn": Published("vi", ELECTRA_BASE, {"do_lower_case": False}),
    "hfl/chinese-electra-180g-base-discriminator": Published(
        "zh",
        ELECTRA_BASE,
        {"init_inputs": []},
        lowercase=True,
        accents=False,
        fast=True,
        files={"added_tokens.json": "{}"},
    ),
    "google/electra-small-discriminator": Published(
        "en",
        ELECTRA_SMALL,
        {"do_lower_case": True, "model_max_length": 512},
        lowercase=True,
        accents=False,
        fast=True,
    ),
    "YituTech/conv-bert-base": Published("en", CONVBERT_BASE, None, lowercase=True, accents=False),
    "YituTech/conv-bert-medium-small": Published(
        "en", CONVBERT_MEDIUM_SMALL, None, lowercase=True, accents=False
    ),
    "YituTech/conv-bert-small": Published(
        "en", CONVBERT_SMALL, None, lowercase=True, accents=False
    ),
}

# Words are cut by other programs: the weights can be taken, the tokenizer is refused.
JAPANESE = {
    "izumi-lab/electra-base-japanese-discriminator": (
        Published(
            "ja",
            ELECTRA_BASE | {"tokenizer_class": "BertJapaneseTokenizer"},
            {
                **NAMED,
                "do_lower_case": False,
                "do_word_tokenize": True,
                "do_subword_tokenize": True,
                "word_tokenizer_type": "mecab",
                "subword_tokenizer_type": "wordpiece",
                "never_split": None,
                "mecab_kwargs": {"mecab_dic": "ipadic"},
                "tokenize_chinese_chars": False,
            },
        ),
        r"config\.json: tokenizer_class='BertJapaneseTokenizer'",
    ),
    "the same without a class in config.json": (
        Published("ja", ELECTRA_BASE, {"do_lower_case": False, "word_tokenizer_type": "mecab"}),
        r"tokenizer_config\.json: word_tokenizer_type='mecab'",
    ),
    "megagonlabs/electra-base-japanese-discriminator": (
        Published("ja", ELECTRA_BASE, {**NAMED, "tokenizer_class": "ElectraSudachipyTokenizer"}),
        r"tokenizer_config\.json: tokenizer_class='ElectraSudachipyTokenizer'",
    ),
}

# A few sentences of each language, with what is particular in its letters.
SENTENCES = {
    "tr": (
        "İstanbul'da ılık bir ilkbahar günü, IĞDIR'dan gelen konuklar çay içti.",
        "Öğretmen, çocuğun şarkısını dinleyip GÜLÜMSEDİ; sonra ışığı kapattı.",
    ),
    "de": (
        "Die Straße führt über schöne Hügel; im GROẞEN Gasthof gibt es Äpfel und Käse.",
        "»Wörter« wie Fußgängerübergang, Maßstab oder naïve Thesen sind ÜBERALL zu lesen.",
    ),
    "es": (
        "¿Cuándo llegó el señor Núñez? ¡Qué vergüenza, AÑOS después nadie lo sabía!",
        "La cigüeña voló sobre el árbol más alto de la región de Cáceres.",
    ),
    "it": (
        "Perché la città è così bella? C'è più luce, e l'università È APERTA.",
        "L'anno scorso andò a Forlì, dov'è nata sua zia; poi tornò giù al mare.",
    ),
    "ko": (
        "서울에서 부산까지 기차로 두 시간 반이 걸립니다. 대한민국의 KTX는 빠르다!",
        "그는 漢字를 배우고, 학교에서 \u1112\u1161\u11ab\u1100\u1173\u11af을 가르쳤다.",
    ),
    "vi": (
        "Hà Nội là thủ đô của nước Việt Nam, nằm ở ĐỒNG BẰNG sông Hồng.",
        "Người ta thường uống cà phê sữa đá vào buổi sáng; thật là tuyệt vời!",
    ),
    "zh": (
        "北京是中华人民共和国的首都，人口超过两千万。他买了3本ＡＢＣ书。",
        "我们在大学学习自然语言处理（NLP），老师叫李明·café。",
    ),
    "ja": ("東京は日本の首都です。彼はカメラを買って、富士山へ行った。", "ガギグゲゴとｶﾞｷﾞｸﾞ。"),
    "en": (
        "The naïve façade of “modern” houses — £9 each — isn't what it's CRACKED up to be.",
        "A résumé, a co-operative Café and the U.S.A.: 3.14159 words, e.g. don't.",
    ),
}
