#include "qcore/python/module.h"  // where it was before there were folders
