# Prints one package's lines of a hash-pinned requirements file: awk -v package=uv -f pick.awk requirements-dev.txt
/^[^ #]/ { picked = index($0, package "==") == 1 }
picked && !/^ *#/
