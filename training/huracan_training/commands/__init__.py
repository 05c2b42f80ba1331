"""Commands of the training room, one module each: a typer app that the `huracan` command takes in."""
