from .classifier import OnlineClassifier as OnlineClassifier
from .learn import learn_online as learn_online
from .learn import load_online as load_online
from .progress import OnlineRecord as OnlineRecord
from .regressor import OnlineRegressor as OnlineRegressor
