import os

from celery import Celery
from django.conf import settings

app = Celery("exports_site", broker=settings.REDIS)
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 4


@app.task(name="make_file")
def make_file(pk):
    import xlsxwriter
    from django.core import mail, signing
    from django.db import connection, transaction
    from django.utils import timezone

    from .models import FileRequest

    if not FileRequest.objects.filter(pk=pk, status="pending").update(status="running"):
        return
    request = FileRequest.objects.get(pk=pk)
    path = f"{settings.EXPORTS}/{pk}.xlsx"
    options = {"constant_memory": True, "remove_timezone": True, "default_date_format": "yyyy-mm-dd hh:mm:ss"}
    book = xlsxwriter.Workbook(path, options)
    sheet = book.add_worksheet()
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute("SELECT * FROM login_events ORDER BY id LIMIT %s", [request.criteria["rows"]])
        sheet.write_row(0, 0, [column.name for column in cursor.description])
        for r, row in enumerate(cursor, 1):
            sheet.write_row(r, 0, row)
    book.close()
    request.file, request.filename, request.size = path, f"export-{pk}.xlsx", os.path.getsize(path)
    request.status, request.finished = "finished", timezone.now()
    request.save()
    token = signing.dumps({"id": pk}, salt="bgfiles")
    text = f"Download it at http://127.0.0.1/download/{token}\n"
    mail.send_mail(f"Your file {pk} is ready", text, "noreply@example.org", [request.requester_email])
