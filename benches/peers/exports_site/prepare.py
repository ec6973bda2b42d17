"""python -m exports_site.prepare FILE...: an empty table with these files as finished requests;
prints a download path for each as a JSON list."""

import json
import os
import sys

import django

django.setup()

from django.core import signing  # noqa: E402
from django.db import connection  # noqa: E402

from .models import FileRequest  # noqa: E402


def link(path):
    request = FileRequest.objects.create(
        requester_email="a@example.org",
        file_type="login_events",
        criteria={},
        status="finished",
        file=path,
        filename=os.path.basename(path),
        size=os.path.getsize(path),
    )
    return "/download/" + signing.dumps({"id": request.pk}, salt="bgfiles")


with connection.cursor() as cursor:
    cursor.execute("DROP TABLE IF EXISTS exports_site_filerequest")
with connection.schema_editor() as schema:
    schema.create_model(FileRequest)
print(json.dumps([link(path) for path in sys.argv[1:]]))
