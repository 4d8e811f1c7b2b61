"""img2dataset's command line as a module, so that it runs in this Python's environment."""

if __name__ == "__main__":
    from img2dataset import main

    main()
