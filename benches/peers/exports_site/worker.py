import django

django.setup()

from .tasks import app  # noqa: E402, F401
