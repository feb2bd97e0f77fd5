from .requests import Limits as Limits
from .server import serve as serve
from .service import Service as Service
