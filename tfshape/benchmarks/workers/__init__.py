"""Programs that train one model in one way and time it on request; run by path, so that any interpreter can."""
