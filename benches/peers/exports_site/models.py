from django.db import models


class FileRequest(models.Model):
    requester_email = models.CharField(max_length=200)
    file_type = models.CharField(max_length=100)
    criteria = models.JSONField()
    status = models.CharField(max_length=20, default="pending", db_index=True)
    file = models.CharField(max_length=300, blank=True)
    filename = models.CharField(max_length=200, blank=True)
    size = models.BigIntegerField(null=True)
    created = models.DateTimeField(auto_now_add=True)
    finished = models.DateTimeField(null=True)
