"""The run-time type checker of the tests, named by the import hook in conftest.py."""

from beartype import BeartypeConf, beartype

checker = beartype(
    conf=BeartypeConf(is_pep484_tower=True)
)  # an int is accepted where a float is asked for
