from .estimators import Classifier as Classifier
from .estimators import Regressor as Regressor
