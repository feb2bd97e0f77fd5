from .diagnose import diagnose as diagnose
from .finding import Diagnosis as Diagnosis
from .finding import Finding as Finding
from .finding import Repair as Repair
from .finding import Severity as Severity
