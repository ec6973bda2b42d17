"""The stack that people build by hand: Django, Celery, Redis and XlsxWriter."""
