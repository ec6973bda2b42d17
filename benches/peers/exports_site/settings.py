import os

SECRET_KEY = "bench-key-bench-key-bench-key-bench-key-00"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["exports_site"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "exports_site.urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "CONN_MAX_AGE": 600,
    }
}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
EMAIL_HOST = "127.0.0.1"
EMAIL_PORT = int(os.environ.get("SMTP_PORT", "25"))
EXPORTS = os.environ["EXPORTS"]
REDIS = f"redis://127.0.0.1:{os.environ.get('REDIS_PORT', '6379')}/0"
LOGGING_CONFIG = None
