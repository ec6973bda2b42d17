import json

from django.core import signing
from django.db import transaction
from django.http import FileResponse, Http404, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from .models import FileRequest
from .tasks import make_file


@csrf_exempt
def create(http):
    body = json.loads(http.body)
    with transaction.atomic():
        request = FileRequest.objects.create(
            requester_email=body["email"], file_type="login_events", criteria=body["criteria"]
        )
        transaction.on_commit(lambda: make_file.delay(request.pk))
    return JsonResponse({"id": request.pk, "status": request.status}, status=202)


def download(http, token):
    try:
        data = signing.loads(token, salt="bgfiles", max_age=7 * 86400)
    except signing.BadSignature:
        raise Http404 from None
    request = FileRequest.objects.filter(pk=data["id"], status="finished").first()
    if request is None:
        raise Http404
    return FileResponse(open(request.file, "rb"), as_attachment=True, filename=request.filename)


urlpatterns = [
    path("exports", create),
    path("download/<str:token>", download),
    path("ping", lambda http: HttpResponse("ok")),
]
