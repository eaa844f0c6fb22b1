"""How the page writes numbers."""


def percent(share: float) -> str:
    """0.6124 -> 61.2 %"""
    return f"{100 * share:.1f}".removesuffix(".0").replace("-", "\u2212") + "\u00a0%"


def number(value: float) -> str:
    """Three significant digits, thousands grouped: 0.01234 -> 0.0123, 12345.6 -> 12 346."""
    if abs(value) >= 1000:
        text = f"{value:,.0f}".replace(",", "\u202f")
    else:
        text = f"{value:.3g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"
    return text.replace("-", "\u2212")


def signed(value: float) -> str:
    """0.4 -> +0.40"""
    return f"{value:+.2f}".replace("-", "\u2212") if value else "0"


def duration(seconds: float) -> str:
    """8.2 -> 8.2 s, 461 -> 7 min 41 s, 7500 -> 2 h 5 min"""
    if seconds < 60:
        return f"{seconds:.1f}\u00a0s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{hours}\u00a0h {minutes % 60}\u00a0min" if hours else f"{minutes}\u00a0min {int(seconds % 60)}\u00a0s"
