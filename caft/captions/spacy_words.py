"""What spaCy's English knows and the sentencizer asks for; written by `python -m pipelines.spacy_words`."""

SPACY = "3.8.18"

# Characters that may end a sentence, as code points.
MARKS = "".join(
    chr(int(code, 16))
    for code in """
104a 104b 10a56 10a57 11047 11048 110be 110bf 110c0 110c1 11141 11142 11143 111c5 111c6 111cd 111de 111df 11238 11239
1123b 1123c 112a9 1144b 1144c 115c2 115c3 115c9 115ca 115cb 115cc 115cd 115ce 115cf 115d0 115d1 115d2 115d3 115d4
115d5 115d6 115d7 11641 11642 1173c 1173d 1173e 11a42 11a43 11a9b 11a9c 11c41 11c42 1362 1367 1368 166e 16a6e 16a6f
16af5 16b37 16b38 16b44 1735 1736 1803 1809 1944 1945 1aa8 1aa9 1aaa 1aab 1b5a 1b5b 1b5e 1b5f 1bc9f 1c3b 1c3c 1c7e
1c7f 1da88 203c 203d 2047 2048 2049 21 2e 2e2e 2e3c 3002 3f 589 61f 6d4 700 701 702 7f9 964 965 a4ff a60e a60f a6f3
a6f7 a876 a877 a8ce a8cf a92f a9c8 a9c9 aa5d aa5e aa5f aaf0 aaf1 abeb fe52 fe56 fe57 ff01 ff0e ff1f ff61
""".split()
)

# Words of the tokenizer in plain letters, also with a stop: those that an end is asked about.
WORDS = frozenset(
    """
Adm. Aint Ak. Ala. Apr. Arent Ariz. Ark. Aug. Bros. Calif. Cannot Cant Cantve Co. Colo. Conn. Corp. Couldnt Couldntve
Couldve Darent Dec. Del. Didnt Didntve Doesnt Doesntve Doin Dont Dontve Dr. Feb. Fla. Ga. Gen. Goin Gonna Gotta Gov.
Hadnt Hadntve Hasnt Havent Havin Hed Hedve Hellve Hes Howd Howdve Howll Howllve Howre Hows Howve Ia. Id Id. Idve Ill.
Illve Im Ima Inc. Ind. Isnt Itd Itdve Itll Itllve Ive Jan. Jr. Jul. Jun. Kan. Kans. Ky. La. Lovin Ltd. Mar. Mass.
Maynt Mayntve Md. Messrs. Mich. Mightnt Mightntve Mightve Minn. Miss. Mo. Mont. Mr. Mrs. Ms. Mt. Mustnt Mustntve
Mustve Neb. Nebr. Neednt Needntve Nev. Nothin Notve Nov. Nuthin Oct. Okla. Ol Ore. Oughtnt Oughtntve Pa. Prof. Rep.
Rev. Sen. Sep. Sept. Shant Shantve Shedve Shellve Shes Shouldnt Shouldntve Shouldve Somethin St. Tenn. Thatd Thatdve
Thatll Thatllve Thats Thered Theredve Therell Therellve Therere Theres Thereve Thesed Thesedve Thesell Thesellve
Thesere Theseve Theyd Theydve Theyll Theyllve Theyre Theyve Thisd Thisdve Thisll Thisllve Thiss Thosed Thosedve
Thosell Thosellve Thosere Thoseve Va. Wash. Wasnt Wed Wedve Wellve Werent Weve Whatd Whatdve Whatll Whatllve Whatre
Whats Whatve Whend Whendve Whenll Whenllve Whenre Whens Whenve Whered Wheredve Wherell Wherellve Wherere Wheres
Whereve Whod Whodve Wholl Whollve Whos Whove Whyd Whydve Whyll Whyllve Whyre Whys Whyve Wis. Wont Wontve Wouldnt
Wouldntve Wouldve XD XDD Youd Youdve Youll Youllve Youre Youve a. aint arent b. c. cannot cant cantve co. couldnt
couldntve couldve d. darent didnt didntve doesnt doesntve doin dont dontve e. em f. g. goin gonna gotta h. hadnt
hadntve hasnt havent havin hed hedve hellve hes howd howdve howll howllve howre hows howve i. id idve illve im ima
isnt itd itdve itll itllve ive j. k. l. ll lovin m. maynt mayntve mightnt mightntve mightve mustnt mustntve mustve n.
neednt needntve nothin notve nuff nuthin o. ol oughtnt oughtntve p. q. r. s. shant shantve shedve shellve shes
shouldnt shouldntve shouldve somethin t. thatd thatdve thatll thatllve thats thered theredve therell therellve therere
theres thereve thesed thesedve thesell thesellve thesere theseve theyd theydve theyll theyllve theyre theyve thisd
thisdve thisll thisllve thiss thosed thosedve thosell thosellve thosere thoseve u. v. vs. w. wasnt wed wedve wellve
werent weve whatd whatdve whatll whatllve whatre whats whatve whend whendve whenll whenllve whenre whens whenve whered
wheredve wherell wherellve wherere wheres whereve whod whodve wholl whollve whos whove whyd whydve whyll whyllve whyre
whys whyve wont wontve wouldnt wouldntve wouldve x. xD xDD y. yall youd youdve youll youllve youre youve z.
""".split()
)
