"""A run's log stays readable, whatever libraries warn of at every update."""

import warnings

from convbert.pretrain.run import log


def test_a_warning_that_every_update_repeats_is_one_line(capsys) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        log.for_training(1)
        for _ in range(3):
            warnings.warn(
                "`torch.distributed.reduce_scatter_tensor` is deprecated.\nPlease use another.",
                FutureWarning,
                stacklevel=1,
            )
            warnings.warn("the gradient\nis odd", UserWarning, stacklevel=1)
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert " rank 1 WARNING UserWarning: the gradient is odd (" in line


def test_a_library_that_resets_the_filters_repeats_no_line(capsys) -> None:
    with warnings.catch_warnings():
        log.for_training(0)
        for _ in range(3):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                warnings.warn("`old` is deprecated", FutureWarning, stacklevel=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert "`old` is deprecated" in line
