from launch.page.number_format import duration, number, percent


def test_numbers_are_written_for_people() -> None:
    assert [number(value) for value in (0.01234, 12345.6, -0.5, 0, 3.0, 0.00002)] == [
        "0.0123",
        "12\u202f346",
        "−0.5",
        "0",
        "3",
        "2.0e−05",
    ]
    assert [percent(value) for value in (0.6124, 1, 0)] == ["61.2\u00a0%", "100\u00a0%", "0\u00a0%"]
    assert [duration(value) for value in (8.24, 461, 7500)] == ["8.2\u00a0s", "7\u00a0min 41\u00a0s", "2\u00a0h 5\u00a0min"]
